//! What a file is, by its first bytes: the name of a file says nothing.

use super::Format;

/// How many bytes of a file [`Content::of`] wants to see, as far as the file has them.
pub const HEAD: usize = 64 << 10;

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A disk in a format that can be kept.
    Disk(Format),
    /// A LUKS container: kept as it is, counts as raw.
    Luks,
    /// A stream to decompress first.
    Compressed(Compression),
    /// A format that is known and refused.
    Refused(&'static str),
    /// Marks of more than one format.
    Ambiguous(&'static str, &'static str),
}

/// How a whole file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952, one or more members.
    Gzip,
    /// bzip2, one or more streams.
    Bzip2,
    /// The .xz format, one or more streams.
    Xz,
    /// RFC 8878, one or more frames.
    Zstd,
}

impl Compression {
    /// Its usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// Where a format leaves its mark.
struct Mark {
    offset: usize,
    magic: &'static [u8],
    name: &'static str,
    content: Content,
}

const fn mark(offset: usize, magic: &'static [u8], name: &'static str, content: Content) -> Mark {
    Mark { offset, magic, name, content }
}

/// The marks, from the formats' specifications and `libmagic`'s common knowledge.
const MARKS: &[Mark] = &[
    mark(0, b"QFI\xfb\0\0\0\x02", "qcow2", Content::Disk(Format::Qcow2)),
    mark(0, b"QFI\xfb\0\0\0\x03", "qcow2", Content::Disk(Format::Qcow2)),
    mark(0, b"QFI\xfb", "qcow", Content::Refused("qcow (unknown version)")),
    mark(0, b"KDMV", "vmdk", Content::Disk(Format::Vmdk)),
    mark(0, b"COWD", "vmdk of ESX", Content::Refused("vmdk (ESX sparse)")),
    mark(
        0,
        b"\xbe\xba\xfe\xca\0\0\0\0",
        "vmdk of ESX",
        Content::Refused("vmdk (ESX space-efficient sparse)"),
    ),
    mark(
        0,
        b"# Disk DescriptorFile",
        "vmdk descriptor",
        Content::Refused("vmdk descriptor (data in extent files)"),
    ),
    mark(0x40, b"\x7f\x10\xda\xbe", "vdi", Content::Disk(Format::Vdi)),
    mark(0, b"vhdxfile", "vhdx", Content::Disk(Format::Vhdx)),
    mark(0, b"conectix", "vhd", Content::Disk(Format::Vhd)),
    mark(0, b"LUKS\xba\xbe", "LUKS", Content::Luks),
    mark(0, b"QED\0", "qed", Content::Refused("qed")),
    mark(0, b"WithoutFreeSpace", "parallels", Content::Refused("parallels")),
    mark(0, b"WithouFreSpacExt", "parallels", Content::Refused("parallels")),
    mark(0, b"Bochs Virtual HD Image", "bochs", Content::Refused("bochs")),
    mark(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop", Content::Refused("cloop")),
    mark(0, b"sprs", "dmg", Content::Refused("dmg (sparse)")),
    mark(0, b"EVF\t\r\n\xff\0", "EWF", Content::Refused("EWF")),
    mark(0, b"EVF2\r\n\x81\0", "EWF", Content::Refused("EWF")),
    mark(0, b"\x1f\x8b\x08", "gzip", Content::Compressed(Compression::Gzip)),
    mark(0, b"\xfd7zXZ\0", "xz", Content::Compressed(Compression::Xz)),
    mark(0, b"\x28\xb5\x2f\xfd", "zstd", Content::Compressed(Compression::Zstd)),
];

/// What makes a raw disk of it. A disc or a partitioned disk counts as raw, but no other format may look like
/// one: a program that reads it as raw would see another disk.
const RAW_MARKS: &[(usize, &[u8], &str)] = &[
    (0x8001, b"CD001", "ISO 9660"),
    (0x8001, b"BEA01", "UDF"),
    (0x200, b"EFI PART", "a disk with GPT partitions"),
    PARTITION_TABLE,
];

/// Two bytes only: what compression or encryption makes of anything has them now and then.
const PARTITION_TABLE: (usize, &[u8], &str) = (0x1fe, b"\x55\xaa", "a disk with MBR partitions");

impl Content {
    /// What a file is whose first bytes are `head` (up to [`HEAD`]). What carries no mark is raw.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        let has = |offset: usize, magic: &[u8]| {
            head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
        };
        let fixed = MARKS.iter().filter(|mark| has(mark.offset, mark.magic));
        let mut found = fixed.chain(unfixed_mark(head));
        let Some(first) = found.next() else {
            return Self::Disk(Format::Raw);
        };
        if let Some(other) = found.find(|mark| mark.offset != first.offset) {
            return Self::Ambiguous(first.name, other.name);
        }
        let random = matches!(first.content, Self::Compressed(_) | Self::Luks);
        let raw = RAW_MARKS.iter().filter(|mark| !random || **mark != PARTITION_TABLE);
        match raw.clone().find(|(offset, magic, _)| has(*offset, magic)) {
            Some((_, _, name)) => Self::Ambiguous(first.name, name),
            None => first.content,
        }
    }
}

/// Marks that take more than a comparison.
fn unfixed_mark(head: &[u8]) -> Option<&'static Mark> {
    const BZIP2: Mark = mark(0, b"", "bzip2", Content::Compressed(Compression::Bzip2));
    const ZSTD: Mark = mark(0, b"", "zstd", Content::Compressed(Compression::Zstd));
    const DESCRIPTOR: Mark =
        mark(0, b"", "vmdk descriptor", Content::Refused("vmdk descriptor (data in extent files)"));
    if is_bzip2(head) {
        Some(&BZIP2)
    } else if is_skippable_zstd(head) {
        Some(&ZSTD)
    } else if is_bare_vmdk_descriptor(head) {
        Some(&DESCRIPTOR)
    } else {
        None
    }
}

/// How many bytes at the end of a file [`trailer`] wants to see.
pub const TAIL: usize = 512;

/// The format of a file that looks raw but for `tail`, its last [`TAIL`] bytes, where some formats have
/// their only mark.
#[must_use]
pub fn trailer(tail: &[u8]) -> Option<&'static str> {
    let tail: &[u8; TAIL] = tail.try_into().ok()?;
    if tail.starts_with(b"koly\0\0\0\x04\0\0\x02\0") {
        return Some("dmg");
    }
    let (kind, _) = vhd_footer(tail)?;
    Some(if kind == FIXED { "fixed vhd (of another length than its footer says)" } else { "vhd" })
}

/// Disk type of a fixed vhd in its footer.
const FIXED: u32 = 2;

/// The size in bytes of the disk in a file that ends with `tail`, the footer of a fixed vhd, which is all that such a
/// file has besides its disk (Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"); `None`: it
/// is none.
#[must_use]
pub fn fixed_vhd(tail: &[u8]) -> Option<u64> {
    vhd_footer(tail).filter(|(kind, _)| *kind == FIXED).map(|(_, size)| size)
}

/// Disk type and size in bytes of a vhd footer, which counts only with its checksum.
fn vhd_footer(tail: &[u8]) -> Option<(u32, u64)> {
    let tail: &[u8; TAIL] = tail.try_into().ok()?;
    let number = |at: usize| tail[at..].first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let sum = tail.iter().enumerate().filter(|(at, _)| !(64..68).contains(at));
    let sum = !sum.fold(0_u32, |sum, (_, &byte)| sum.wrapping_add(u32::from(byte)));
    if !tail.starts_with(b"conectix") || number(64)? != sum {
        return None;
    }
    let size = tail[48..].first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))?;
    Some((number(60)?, size))
}

/// "BZh", the level, then the mark of a block or of the end of the stream.
fn is_bzip2(head: &[u8]) -> bool {
    head.starts_with(b"BZh")
        && head.get(3).is_some_and(|level| (b'1'..=b'9').contains(level))
        && head.get(4..10).is_some_and(|mark| {
            mark == b"\x31\x41\x59\x26\x53\x59" || mark == b"\x17\x72\x45\x38\x50\x90"
        })
}

/// A skippable frame (RFC 8878, 3.1.2), with which multi-threaded compressors may begin.
fn is_skippable_zstd(head: &[u8]) -> bool {
    let Some([low, b'\x2a', b'\x4d', b'\x18']) = head.first_chunk::<4>() else { return false };
    let length = head.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    (0x50..=0x5f).contains(low)
        && length
            .and_then(|length| head.get(8 + length as usize..))
            .is_some_and(|next| next.starts_with(b"\x28\xb5\x2f\xfd"))
}

/// A descriptor without its usual first line: comments and blank lines, then `version=`.
fn is_bare_vmdk_descriptor(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let is_version = |line: &[u8]| line.starts_with(b"version=");
    if !text.starts_with(b"#") {
        // No look for lines in all of a disk's head.
        return is_version(text);
    }
    text.split(|&byte| byte == b'\n' || byte == b'\r')
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty() && !line.starts_with(b"#"))
        .is_some_and(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(marks: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        for (offset, magic) in marks {
            bytes[*offset..offset + magic.len()].copy_from_slice(magic);
        }
        bytes
    }

    #[test]
    fn what_carries_no_mark_is_raw() {
        assert_eq!(Content::of(b""), Content::Disk(Format::Raw));
        assert_eq!(Content::of(&file(&[(510, b"\x55\xaa")])), Content::Disk(Format::Raw));
        for (offset, magic, _) in RAW_MARKS {
            assert_eq!(Content::of(&file(&[(*offset, magic)])), Content::Disk(Format::Raw));
        }
    }

    #[test]
    fn every_mark_is_recognised() {
        for mark in MARKS {
            let found = Content::of(&file(&[(mark.offset, mark.magic)]));
            assert_eq!(found, mark.content, "{}", mark.name);
        }
    }

    #[test]
    fn marks_of_two_formats_are_ambiguous() {
        let vdi = (0x40, &b"\x7f\x10\xda\xbe"[..]);
        assert!(matches!(
            Content::of(&file(&[(0, b"QFI\xfb\0\0\0\x03"), vdi])),
            Content::Ambiguous("qcow2", "vdi")
        ));
        for (offset, magic, name) in RAW_MARKS {
            for mark in MARKS {
                let both = Content::of(&file(&[(mark.offset, mark.magic), (*offset, magic)]));
                let chance = *offset == 0x1fe
                    && matches!(mark.content, Content::Luks | Content::Compressed(_));
                let expected =
                    if chance { mark.content } else { Content::Ambiguous(mark.name, name) };
                assert_eq!(both, expected, "{} and {name}", mark.name);
            }
        }
    }

    #[test]
    fn a_compressed_file_without_a_fixed_mark_can_be_ambiguous_too() {
        let head = b"BZh9\x31\x41\x59\x26\x53\x59";
        for (offset, magic) in [(0x8001, &b"CD001"[..]), (0x40, b"\x7f\x10\xda\xbe")] {
            let both = Content::of(&file(&[(0, head), (offset, magic)]));
            assert!(matches!(both, Content::Ambiguous(..)), "{both:?}");
        }
    }

    #[test]
    fn a_footer_makes_a_format_only_if_it_is_whole() {
        let mut tail = [0; TAIL];
        tail[..8].copy_from_slice(b"conectix");
        assert_eq!(trailer(&tail), None);
        for (kind, named) in [(3_u32, "vhd"), (FIXED, "fixed vhd")] {
            tail[60..68].fill(0);
            tail[60..64].copy_from_slice(&kind.to_be_bytes());
            let sum: u32 = tail.iter().map(|&byte| u32::from(byte)).sum();
            tail[64..68].copy_from_slice(&(!sum).to_be_bytes());
            assert!(trailer(&tail).is_some_and(|name| name.starts_with(named)), "{named}");
        }
        assert_eq!(trailer(&tail[..100]), None);
        tail[..12].copy_from_slice(b"koly\0\0\0\x04\0\0\x02\0");
        assert_eq!(trailer(&tail), Some("dmg"));
    }

    #[test]
    fn a_word_that_begins_like_bzip2_is_raw() {
        assert_eq!(Content::of(b"BZh9 is not enough"), Content::Disk(Format::Raw));
        assert_eq!(
            Content::of(b"BZh9\x31\x41\x59\x26\x53\x59rest"),
            Content::Compressed(Compression::Bzip2)
        );
    }

    #[test]
    fn a_skippable_frame_before_a_zstd_frame_is_zstd() {
        assert_eq!(
            Content::of(b"\x50\x2a\x4d\x18\x04\0\0\0abcd\x28\xb5\x2f\xfdrest"),
            Content::Compressed(Compression::Zstd)
        );
    }

    #[test]
    fn a_vmdk_descriptor_is_refused_with_and_without_its_first_line() {
        assert!(matches!(Content::of(b"# Disk DescriptorFile\n"), Content::Refused(_)));
        assert!(matches!(Content::of(b"#x\n\n version=1\n"), Content::Refused(_)));
    }
}
