//! The description of an appliance (Open Virtualization Format, DSP0243 versions 1 and 2, and what was before
//! them), as far as it concerns disks.

use super::{ArchiveError, plain_name};
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
    /// The member that holds it, or the first part of it.
    pub(super) name: String,
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
            Ok(OvfDisk { name, capacity, length, is_chunked, has_parent })
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

    /// The name of the part with this number, counted from 0.
    pub(super) fn chunk(&self, number: usize) -> String {
        format!("{}.{number:09}", self.name)
    }

    /// Whether `name` is that of a part behind the one with this number.
    pub(super) fn is_later_chunk(&self, name: &str, number: usize) -> bool {
        let digits = name.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('.'));
        let other = digits.filter(|digits| digits.len() == 9).and_then(|d| d.parse::<usize>().ok());
        other.is_some_and(|other| other > number)
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

/// The text of an XML file that may be in UTF-16.
fn decoded(bytes: &[u8]) -> Result<String, ArchiveError> {
    let units = |order: fn([u8; 2]) -> u16| {
        bytes.chunks_exact(2).skip(1).map(move |pair| order([pair[0], pair[1]])).collect::<Vec<_>>()
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => String::from_utf16(&units(u16::from_le_bytes)).ok(),
        [0xfe, 0xff, ..] => String::from_utf16(&units(u16::from_be_bytes)).ok(),
        _ => String::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).to_vec()).ok(),
    };
    text.ok_or_else(|| wrong("it is no text in UTF-8 or UTF-16"))
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
        for bytes in [little, big, utf16.into_bytes()] {
            assert_eq!(Ovf::parse(&bytes, "").unwrap(), plain);
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
        assert!(Ovf::parse(b"\xff<", "").is_err());
        assert_eq!(Ovf::parse(b"<Envelope/>", "").unwrap(), Ovf::default());
    }
}
