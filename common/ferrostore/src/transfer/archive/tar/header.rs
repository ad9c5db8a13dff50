//! A header block of tar: POSIX.1-1988 (ustar), what was before it, and GNU tar's own.

use super::super::{ArchiveError, Kind};

/// Size of a block, bytes.
pub(super) const BLOCK: usize = 512;

pub(super) type Block = [u8; BLOCK];

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    /// Bytes of data behind it.
    pub(super) size: u64,
    pub(super) kind: u8,
    pub(super) block: Block,
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::damaged(Kind::Tar, what)
}

impl Header {
    /// Reads a header; its checksum must be right.
    pub(super) fn parse(block: &Block) -> Result<Self, ArchiveError> {
        if !has_checksum(block) {
            return Err(damaged("a header has a wrong checksum"));
        }
        let size = number(&block[124..136]).ok_or_else(|| damaged("a member has no valid size"))?;
        let mut name = text(&block[..100]).to_vec();
        // GNU tar has other things where POSIX has the beginning of the name.
        let prefix = text(&block[345..500]);
        if block[257..265] == *b"ustar\x0000" && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        Ok(Self { name, size, kind: block[156], block: *block })
    }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or as GNU tar writes large ones: in binary, behind a set bit.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        let low = low.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        return high.iter().all(|&byte| byte == 0).then_some(low).filter(|&v| v < 1 << 63);
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Whether the checksum of a block is that of its bytes, taken as signed ones by some old programs.
pub(super) fn has_checksum(block: &Block) -> bool {
    let field = 148..156;
    let Some(stated) = number(&block[field.clone()]) else { return false };
    let bytes = || {
        block.iter().enumerate().map(|(at, &byte)| if field.contains(&at) { b' ' } else { byte })
    };
    let unsigned: u64 = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    stated == unsigned || i64::try_from(stated) == Ok(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_octal_and_binary() {
        assert_eq!(number(b"00000001750\0"), Some(1000));
        assert_eq!(number(b"    17 \0"), Some(15));
        assert_eq!(number(b"777777777777"), Some((1 << 36) - 1));
        assert_eq!(number(b"\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\x12\0\0\0\0\0\0\0"), Some(0x12 << 56));
        for wrong in [&b"8\0"[..], b"\xff\xff\xff\xff", b"1 2", b"\x80\x01\0\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
    }
}
