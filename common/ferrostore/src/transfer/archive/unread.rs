//! Archives and compressed files that are not read here, by what they begin with.

/// Marks, from the formats' specifications and `libmagic`'s common knowledge.
const MARKS: [(&[u8], &str); 13] = [
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"LZIP\x01", "lzip"),
    (b"LRZI\0", "lrzip"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop"),
    (b"MSCF\0\0\0\0", "cab"),
    (b"!<arch>\n", "ar"),
    (b"070701", "cpio"),
    (b"070702", "cpio"),
    (b"070707", "cpio"),
    (b"xar!\0", "xar"),
];

/// The name of the format that a file beginning with `head` has, and that is not read.
pub(super) fn unread(head: &[u8]) -> Option<&'static str> {
    let marked = MARKS.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, name)| *name);
    let partitioned = head.get(510..512).is_some_and(|mark| mark == b"\x55\xaa");
    marked
        .or_else(|| is_lzma(head).then_some("lzma"))
        // Two bytes alone would be too few.
        .or_else(|| (is_compress(head) && !partitioned).then_some("compress"))
}

/// The format of LZMA Utils, which has no magic (The .lzma File Format, 1.1): properties, the size of the dictionary,
/// the size of the content, and a first byte of data that is always zero.
fn is_lzma(head: &[u8]) -> bool {
    const LARGEST: u64 = 1 << 38;
    let Some((fixed, data)) = head.split_at_checked(13) else { return false };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
    let (dictionary, size) = (number(&fixed[1..5]), number(&fixed[5..13]));
    // Only whole powers of two, and halves more, are written.
    let usual = |size: u64| size.is_power_of_two() || (size / 3 * 2).is_power_of_two();
    fixed[0] == 0x5d
        && (dictionary == u64::from(u32::MAX) || dictionary >= 4096 && usual(dictionary))
        && (size == u64::MAX || size < LARGEST)
        && data.first() == Some(&0)
}

/// The format of `compress(1)`: its magic, and flags with the number of bits.
fn is_compress(head: &[u8]) -> bool {
    head.starts_with(b"\x1f\x9d")
        && head.get(2).is_some_and(|flags| flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_its_beginning_only() {
        for (mark, name) in MARKS {
            let file = [mark, &[0; 600]].concat();
            assert_eq!(unread(&file), Some(name));
            assert_eq!(unread(&[&[0; 512], &file[..]].concat()), None);
        }
        let lzma = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x28";
        assert_eq!(unread(lzma), Some("lzma"));
        assert_eq!(unread(b"\x5d\0\0\x81\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x28"), None);
        assert_eq!(unread(b"\x1f\x9d\x90abc"), Some("compress"));
        assert_eq!(unread(b"\x1f\x9d\x00abc"), None);
        let mut disk = vec![0; 512];
        disk[..3].copy_from_slice(b"\x1f\x9d\x90");
        disk[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(unread(&disk), None);
    }
}
