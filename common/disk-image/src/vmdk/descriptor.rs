//! The text in a vmdk image that says what it consists of (Virtual Disk Format 5.0, "The Descriptor").
//!
//! QEMU hardly looks at it, other readers do, each in its own way. So that all of them see the same disk, it
//! may only say what a self-contained image needs, and nothing twice. Names and values in it are of no
//! concern beyond that, nor is their encoding: no file is opened because of them.

use super::{needs_others, unsupported};
use crate::ImageError;
use std::borrow::Cow;

const ACCESSES: [&str; 3] = ["rw", "rdonly", "noaccess"];

/// Checks the descriptor of an image of `capacity` sectors with grains of `grain` sectors; `bytes` begins with it
/// and goes on for as long as any reader looks for a parent in it.
pub(super) fn check(bytes: &[u8], capacity: u64, grain: u64) -> Result<(), ImageError> {
    if has(bytes, "parentfilenamehint") > 0 {
        return Err(has_parent());
    }
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = bytes[..end].strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes[..end]);
    let usual = ["createtype", "parentcid"].iter().all(|key| has(text, key) == 1);
    if !usual || !["CID=", "parentCID="].iter().all(|key| has_number(text, key)) {
        return Err(needs_others("doesn't describe itself in the usual way"));
    }
    let mut extents = 0;
    for line in text.split(|byte| b"\r\n".contains(byte)).map(<[u8]>::trim_ascii) {
        if line.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(odd(line));
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        if is_extent(&line) {
            if !is_own_extent(&line, capacity, grain) {
                return Err(odd(line.as_bytes()));
            }
            extents += 1;
        } else {
            check_setting(&line)?;
        }
    }
    if extents == 1 {
        return Ok(());
    }
    Err(needs_others("does not hold its data in a single extent of its own"))
}

/// How often `bytes` holds `word`, whatever its case.
fn has(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).filter(|part| part.eq_ignore_ascii_case(word.as_bytes())).count()
}

/// Whether the first `key` in `text` is followed by a hexadecimal number: that much QEMU asks for.
fn has_number(text: &[u8], key: &str) -> bool {
    let place = text.windows(key.len()).position(|part| part == key.as_bytes());
    place.is_some_and(|at| {
        text[at + key.len()..].trim_ascii_start().first().is_some_and(u8::is_ascii_hexdigit)
    })
}

fn odd(line: &[u8]) -> ImageError {
    let line: Cow<str> = String::from_utf8_lossy(line);
    needs_others(&format!("has the descriptor line {line:?}, which is not accepted"))
}

fn has_parent() -> ImageError {
    unsupported("is a difference to a parent; merge it with its parent first")
}

fn is_extent(line: &str) -> bool {
    let word = line.split_ascii_whitespace().next().unwrap_or_default();
    ACCESSES.iter().any(|access| word.eq_ignore_ascii_case(access))
}

/// Whether the extent is the file that it stands in: sparse, and as long as the header says. VirtualBox
/// rounds the number in the header up to whole grains.
fn is_own_extent(line: &str, capacity: u64, grain: u64) -> bool {
    let mut words = line.split_ascii_whitespace();
    let access = words.next().is_some_and(|word| ["RW", "RDONLY"].contains(&word));
    let length = words.next().and_then(|word| word.parse::<u64>().ok());
    let fits = length.and_then(|length| capacity.checked_sub(length)).is_some_and(|d| d < grain);
    access && fits && words.next() == Some("SPARSE")
}

/// Checks a line of the form "name = value".
fn check_setting(line: &str) -> Result<(), ImageError> {
    let (key, value) = line.split_once('=').ok_or_else(|| odd(line.as_bytes()))?;
    let value = value.trim().trim_matches('"').trim();
    let key = key.trim().to_ascii_lowercase();
    let accepted = match key.as_str() {
        "createtype" => ["monolithicsparse", "streamoptimized"]
            .iter()
            .any(|known| value.eq_ignore_ascii_case(known)),
        "parentcid" if !value.eq_ignore_ascii_case("ffffffff") => return Err(has_parent()),
        "version" => value.parse::<u32>().is_ok_and(|version| (1..=4).contains(&version)),
        // VirtualBox writes these into images without a parent.
        "ddb.uuid.parent" if !value.bytes().all(|byte| b"0-".contains(&byte)) => {
            return Err(has_parent());
        }
        "parentcid" | "ddb.uuid.parent" | "ddb.uuid.parentmodification" => true,
        other => !other.contains("parent"),
    };
    if accepted { Ok(()) } else { Err(odd(line.as_bytes())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const USUAL: &str = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
        createType=\"streamOptimized\"\n\n# Extent description\nRW 256 SPARSE \"disk.vmdk\"\n\n\
        #DDB\nddb.adapterType = \"ide\"\n";

    fn checked(text: impl AsRef<[u8]>) -> Result<(), ImageError> {
        check(text.as_ref(), 256, 128)
    }

    fn with(from: &str, to: &str) -> Result<(), ImageError> {
        assert!(USUAL.contains(from));
        checked(USUAL.replace(from, to))
    }

    #[test]
    fn what_writers_write_is_accepted() {
        checked(USUAL).unwrap();
        checked(format!("\u{feff}{USUAL}")).unwrap();
        checked(USUAL.replace('\n', "\r\n")).unwrap();
        checked([USUAL.as_bytes(), b"\0\0\0RW 5 FLAT \"x\" 0\n"].concat()).unwrap();
        with("RW 256", "RDONLY 256").unwrap();
        with("RW 256 SPARSE ", " RW\t256   SPARSE\t").unwrap();
        with("RW 256", "RW 200").unwrap();
        with("createType=", "createType\t=  ").unwrap();
        with("\"streamOptimized\"", "monolithicSparse").unwrap();
        with("parentCID=ffffffff", "\tparentCID=\tFFFFFFFF ").unwrap();
        with("#DDB", "changeTrackPath=\"disk-ctk.vmdk\"").unwrap();
        with("#DDB", "isNativeSnapshot=\"no\"\nencoding=\"windows-1252\"").unwrap();
        with("version=1", "version=3").unwrap();
        let virtual_box = "ddb.uuid.image=\"6f-9c\"\nddb.uuid.parent=\"00000000-0000-0000\"\nddb.uuid.modification=\"6f\"\nddb.uuid.parentmodification=\"00000000\"";
        with("#DDB", virtual_box).unwrap();
        let name = [&b"RW 256 SPARSE \"B\xfcro\x8a.vmdk\"\nddb.comment = \"\xff\xfe\"\n"[..]];
        checked([USUAL.replace("RW 256 SPARSE \"disk.vmdk\"", "").as_bytes(), name[0]].concat())
            .unwrap();
    }

    #[test]
    fn what_another_reader_could_read_as_another_disk_is_refused() {
        for more in [
            "parentFileNameHint=\"/etc/passwd\"",
            "#PARENTFILENAMEHINT=x",
            "parentCID=ffffffff",
            "parentcid = 1",
            "# createType",
            "RW 256 SPARSE \"other.vmdk\"",
            "\tRDONLY\t256\tSPARSE\t\"other.vmdk\"",
            "NOACCESS 256 SPARSE \"x\"",
            "rw 256 SPARSE \"x\"",
            "RW 2048 FLAT \"/etc/passwd\" 0",
            "RW 256 ZERO",
            "ddb.nativeParentHint = \"x\"",
            "ddb.uuid.parent = \"00000000-0000-0001\"",
            "ddb.x = \"\u{1}\"",
            "what is this",
        ] {
            assert!(checked(format!("{USUAL}{more}\n")).is_err(), "{more}");
        }
        for (from, to) in [
            ("RW 256", "RW 128"),
            ("RW 256", "RW 257"),
            ("RW 256", "RW -1"),
            ("RW 256", "NOACCESS 256"),
            ("RW 256 SPARSE", "RW 256 FLAT"),
            ("RW 256 SPARSE", "RW 256"),
            ("streamOptimized", "twoGbMaxExtentSparse"),
            ("createType", "type"),
            ("parentCID=ffffffff", "parentCID=00000000"),
            ("parentCID=ffffffff", "parentCID =ffffffff"),
            ("CID=12345678", "CID=x"),
            ("version=1", "version=99"),
        ] {
            assert!(with(from, to).is_err(), "{to}");
        }
        let behind = [USUAL.as_bytes(), b"\0parentFileNameHint=\"x\""].concat();
        assert!(checked(behind).is_err());
        assert!(checked("").is_err());
    }
}
