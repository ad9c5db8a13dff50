//! The description of an appliance (Open Virtualization Format, DSP0243 versions 1 and 2, and what was before
//! them), as far as it concerns disks.

use super::{ArchiveError, plain_name};
use crate::transfer::url::percent_decoded;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;

/// Largest description that is read, bytes.
pub(super) const LARGEST: usize = 4 << 20;
/// Files and disks at most.
const MOST: usize = 10_000;

/// What an OVF file says of its disks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ovf {
    disks: Vec<OvfDisk>,
}

/// A disk, in a file of the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OvfDisk {
    /// The name of the member that holds it.
    pub(super) name: String,
    /// The name that this is as a URI, which some programs write and some don't.
    decoded: Option<String>,
    /// What the virtual machine sees, bytes.
    pub(super) capacity: Option<u64>,
    /// Length of the file, all its parts together, bytes.
    pub(super) length: Option<u64>,
    /// Whether the file is in parts, `NAME.000000000` and so on.
    pub(super) is_chunked: bool,
    /// Whether it is a difference to another disk.
    pub(super) has_parent: bool,
}

#[derive(Debug)]
struct File {
    name: String,
    length: Option<u64>,
    is_chunked: bool,
}

fn wrong(what: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Ovf(format!("is not valid ({what}); export the appliance again"))
}

impl Ovf {
    /// Reads an OVF file that is in the folder `folder` of its archive (empty, or with a slash at its end).
    ///
    /// # Errors
    /// [`ArchiveError::Ovf`].
    pub fn parse(bytes: &[u8], folder: &str) -> Result<Self, ArchiveError> {
        let text = decoded(bytes)?;
        let mut reader = Reader::from_str(&text);
        let (mut files, mut disks) = (HashMap::new(), Vec::new());
        loop {
            match reader.read_event().map_err(wrong)? {
                Event::Start(tag) | Event::Empty(tag) => {
                    match tag.local_name().as_ref() {
                        "File" => files.extend(file(&tag, folder)?),
                        "Disk" => disks.extend(disk(&tag)?),
                        _ => {}
                    }
                    if files.len() > MOST || disks.len() > MOST {
                        return Err(wrong("it has too many files or disks"));
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let disks = disks.into_iter().map(|(reference, capacity, has_parent): (String, _, _)| {
            let file: &File = files
                .get(&reference)
                .ok_or_else(|| wrong(format_args!("it has no file {reference:?} for a disk")))?;
            let (name, length, is_chunked) = (file.name.clone(), file.length, file.is_chunked);
            let decoded = String::from_utf8(percent_decoded(&name)).ok();
            let decoded = decoded.filter(|decoded| *decoded != name);
            Ok(OvfDisk { name, decoded, capacity, length, is_chunked, has_parent })
        });
        Ok(Self { disks: disks.collect::<Result<_, ArchiveError>>()? })
    }

    /// The disks that files hold, in their order.
    pub(super) fn disks(&self) -> &[OvfDisk] {
        &self.disks
    }
}

impl OvfDisk {
    /// That it stands for itself.
    pub(super) fn check(&self) -> Result<(), ArchiveError> {
        if self.has_parent {
            return Err(ArchiveError::Ovf(format!(
                "says that {:?} is a difference to another disk; export the appliance without snapshots",
                self.name
            )));
        }
        Ok(())
    }

    /// Whether `name` is that of the member that holds it.
    pub(super) fn is_in(&self, name: &str) -> bool {
        self.name == name || self.decoded.as_deref() == Some(name)
    }

    /// Which of its parts the member `name` is, counted from 0.
    pub(super) fn part_in(&self, name: &str) -> Option<usize> {
        let (start, digits) = name.rsplit_once('.')?;
        let is_number = digits.len() == 9 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number && self.is_in(start))
    }

    /// That what was found of it is all of it.
    pub(super) fn check_length(&self, found: u64) -> Result<(), ArchiveError> {
        match self.length {
            Some(length) if self.is_chunked && found > 0 && found != length => {
                Err(ArchiveError::Ovf(format!(
                    "says that {:?} has {length} bytes in all, and its parts have {found}; fetch or export the appliance again",
                    self.name
                )))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn missing(&self) -> ArchiveError {
        ArchiveError::Ovf(format!(
            "names {:?}, which is not inside; fetch or export the appliance again",
            self.name
        ))
    }
}

/// The text of an XML file in UTF-8, UTF-16 or an encoding of one byte a character.
fn decoded(bytes: &[u8]) -> Result<String, ArchiveError> {
    let wide = |bytes: &[u8], order: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| order([pair[0], pair[1]]));
        String::from_utf16(&units.collect::<Vec<_>>()).map_err(wrong)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [b'<', 0, ..] => wide(bytes, u16::from_le_bytes),
        [0, b'<', ..] => wide(bytes, u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(bytes).map(str::to_owned);
            // ISO 8859-1, or one of its kin: what counts here is ASCII in all of them.
            Ok(text.unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect()))
        }
    }
}

/// The attributes of an element by their names, whatever their namespace is called.
fn attributes(tag: &BytesStart) -> Result<HashMap<String, String>, ArchiveError> {
    let mut found = HashMap::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(wrong)?;
        let value = quick_xml::escape::unescape(&attribute.value).map_err(wrong)?.into_owned();
        found.insert(attribute.key.local_name().as_ref().to_owned(), value);
    }
    Ok(found)
}

/// A file of References, by its id.
fn file(tag: &BytesStart, folder: &str) -> Result<Option<(String, File)>, ArchiveError> {
    let mut attributes = attributes(tag)?;
    let (Some(id), Some(href)) = (attributes.remove("id"), attributes.remove("href")) else {
        return Ok(None);
    };
    if href.contains("://") {
        return Ok(None);
    }
    let name = format!("{folder}{}", plain_name(href.as_bytes()));
    let length = attributes.get("size").and_then(|size| size.trim().parse().ok());
    Ok(Some((id, File { name, length, is_chunked: attributes.contains_key("chunkSize") })))
}

/// A disk of DiskSection that a file holds: the id of the file, its capacity, and whether it has a parent.
fn disk(tag: &BytesStart) -> Result<Option<(String, Option<u64>, bool)>, ArchiveError> {
    let mut attributes = attributes(tag)?;
    let Some(reference) = attributes.remove("fileRef").filter(|reference| !reference.is_empty())
    else {
        return Ok(None);
    };
    let unit = attributes.get("capacityAllocationUnits").map_or(Some(1), |text| unit(text));
    let capacity = attributes.get("capacity").and_then(|text| text.trim().parse::<u64>().ok());
    let capacity = capacity.zip(unit).and_then(|(count, unit)| count.checked_mul(unit));
    let has_parent = attributes.get("parentRef").is_some_and(|parent| !parent.is_empty());
    Ok(Some((reference, capacity, has_parent)))
}

/// Bytes of a programmatic unit (DSP0004, Annex C), such as `byte * 2^30`, or of a word of older versions.
fn unit(text: &str) -> Option<u64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let text = text.to_ascii_lowercase();
    let word = match text.as_str() {
        "" | "byte" | "bytes" => Some(1),
        "kilobyte" | "kilobytes" | "kb" => Some(1 << 10),
        "megabyte" | "megabytes" | "mb" => Some(1 << 20),
        "gigabyte" | "gigabytes" | "gb" => Some(1 << 30),
        "terabyte" | "terabytes" | "tb" => Some(1 << 40),
        _ => None,
    };
    word.or_else(|| {
        let factor = text.strip_prefix("byte*")?;
        let (base, exponent) = factor.split_once('^').unwrap_or((factor, "1"));
        base.parse::<u64>().ok()?.checked_pow(exponent.parse().ok()?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLAIN: &str = r#"<?xml version="1.0"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
 <ovf:References>
  <ovf:File ovf:id="iso" ovf:href="tools.iso"/>
  <ovf:File ovf:id="f1" ovf:href="a &amp; b.vmdk" ovf:size="70000" ovf:compression="gzip"/>
  <ovf:File ovf:id="f2" ovf:href="./data.vmdk" ovf:chunkSize="100"></ovf:File>
 </ovf:References>
 <ovf:DiskSection>
  <ovf:Disk ovf:diskId="d2" ovf:fileRef="f2" ovf:capacity="3" ovf:capacityAllocationUnits="byte * 2^20"/>
  <ovf:Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="1024"/>
  <ovf:Disk ovf:diskId="empty" ovf:capacity="1024"/>
 </ovf:DiskSection>
</ovf:Envelope>"#;

    #[test]
    fn disks_come_in_the_order_of_their_section() {
        let disks = Ovf::parse(PLAIN.as_bytes(), "vm/").unwrap().disks;
        let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["vm/data.vmdk", "vm/a & b.vmdk"]);
        assert_eq!(disks[0].capacity, Some(3 << 20));
        assert!(disks[0].is_chunked && !disks[1].is_chunked);
        assert_eq!((disks[1].capacity, disks[1].length), (Some(1024), Some(70000)));
    }

    #[test]
    fn namespaces_and_encodings_make_no_difference() {
        let plain = Ovf::parse(PLAIN.as_bytes(), "").unwrap();
        let other = PLAIN.replace("<ovf:", "<").replace("</ovf:", "</");
        assert_eq!(Ovf::parse(other.as_bytes(), "").unwrap(), plain);
        let utf16 = format!("\u{feff}{PLAIN}");
        let little: Vec<u8> = utf16.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = utf16.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let latin = [PLAIN.as_bytes(), b"<Name>B\xfcro</Name>"].concat();
        for bytes in [&little, &big, &little[2..].to_vec(), &big[2..].to_vec(), &latin] {
            assert_eq!(Ovf::parse(bytes, "").unwrap(), plain);
        }
        assert_eq!(Ovf::parse(utf16.as_bytes(), "").unwrap(), plain);
    }

    #[test]
    fn a_name_may_be_a_uri() {
        let text = PLAIN.replace("a &amp; b.vmdk", "a%20b.vmdk");
        let disk = &Ovf::parse(text.as_bytes(), "").unwrap().disks[1];
        assert!(disk.is_in("a%20b.vmdk") && disk.is_in("a b.vmdk") && !disk.is_in("a+b.vmdk"));
        assert_eq!(disk.part_in("a b.vmdk.000000012"), Some(12));
        for other in ["a b.vmdk", "b.vmdk.000000012", "a b.vmdk.12", "a b.vmdk.+00000012"] {
            assert_eq!(disk.part_in(other), None, "{other}");
        }
    }

    #[test]
    fn units_are_bytes_in_the_end() {
        for (text, bytes) in [
            ("byte * 2^30", Some(1 << 30)),
            ("byte*1024", Some(1024)),
            ("GigaBytes", Some(1 << 30)),
            ("", Some(1)),
            ("byte * 2^99", None),
            ("furlong", None),
        ] {
            assert_eq!(unit(text), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_description_is_refused() {
        for wrong in ["<a><File id='1' id='2'/></a>", "<a", "<Disk fileRef='x'/>", "\u{0}<"] {
            assert!(Ovf::parse(wrong.as_bytes(), "").is_err(), "{wrong}");
        }
        assert_eq!(Ovf::parse(b"<Envelope/>", "").unwrap(), Ovf::default());
    }
}
