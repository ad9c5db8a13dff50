//! The header in front of a member (4.3.7).

use super::LOCAL;

/// Length without the name and the extra field, bytes.
pub(super) const FIXED: usize = 30;
/// The sizes are behind the data.
const SIZES_LATER: u16 = 1 << 3;
/// The extra field that holds sizes of 64 bits (4.5.3).
const ZIP64: u16 = 1;

/// What a header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    stored: u32,
    size: u32,
    name: u16,
    extra: u16,
}

impl Header {
    /// The header that `bytes` begin with; only its fixed part is looked at.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<FIXED>().filter(|bytes| bytes.starts_with(LOCAL))?;
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        Some(Self {
            flags: short(6),
            method: short(8),
            crc: word(14),
            stored: word(18),
            size: word(22),
            name: short(26),
            extra: short(28),
        })
    }

    /// Length of the name and of the extra field, bytes.
    pub(super) fn variable(&self) -> (usize, usize) {
        (usize::from(self.name), usize::from(self.extra))
    }

    /// How many bytes are stored, and of how many of content; `None` where that is told later.
    pub(super) fn sizes(&self, extra: &[u8]) -> Option<(u64, u64)> {
        if self.flags & SIZES_LATER != 0 {
            return None;
        }
        let mut large = zip64(extra).into_iter();
        let mut size = |size| if size == u32::MAX { large.next() } else { Some(u64::from(size)) };
        let content = size(self.size)?;
        Some((size(self.stored)?, content))
    }
}

/// The numbers in the extra field for large sizes.
fn zip64(mut extra: &[u8]) -> Vec<u64> {
    while let [a, b, c, d, rest @ ..] = extra {
        let (id, length) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        let Some((field, rest)) = rest.split_at_checked(usize::from(length)) else { break };
        if id == ZIP64 {
            let numbers = field.chunks_exact(8).filter_map(|number| number.try_into().ok());
            return numbers.map(u64::from_le_bytes).collect();
        }
        extra = rest;
    }
    Vec::new()
}
