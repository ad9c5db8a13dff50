//! Units that messages use.

use std::fmt;

/// A size in MiB (2^20 bytes), as oned counts image and datastore sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mebibytes(pub u64);

impl Mebibytes {
    const BYTES: u64 = 1 << 20;

    /// The smallest number of MiB that holds `bytes`.
    #[must_use]
    pub fn holding(bytes: u64) -> Self {
        Self(bytes.div_ceil(Self::BYTES))
    }

    /// The size in bytes; `None` where that is more than a file can have (2^63 - 1).
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        self.0.checked_mul(Self::BYTES).filter(|&bytes| i64::try_from(bytes).is_ok())
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes per second out of `LIMIT_TRANSFER_BW`: a whole number, with a suffix K, M or G (powers of
/// 1024) if wanted. `None` where it is anything else, or 0.
#[must_use]
pub fn parse_bandwidth(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.trim().parse().ok()?;
    number.checked_mul(1 << shift).filter(|&limit| limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_to_whole_mebibytes() {
        assert_eq!(Mebibytes::holding(0).0, 0);
        assert_eq!(Mebibytes::holding(1).0, 1);
        assert_eq!(Mebibytes::holding(1 << 20).0, 1);
        assert_eq!(Mebibytes::holding((1 << 20) + 1).0, 2);
    }

    #[test]
    fn a_size_that_no_file_can_have_has_no_bytes() {
        assert_eq!(Mebibytes(3).bytes(), Some(3 << 20));
        assert_eq!(Mebibytes(1 << 43).bytes(), None);
        assert_eq!(Mebibytes(u64::MAX).bytes(), None);
    }

    #[test]
    fn bandwidths_take_the_suffixes_k_m_and_g() {
        assert_eq!(parse_bandwidth("512"), Some(512));
        assert_eq!(parse_bandwidth("10k"), Some(10 << 10));
        assert_eq!(parse_bandwidth("2 M"), Some(2 << 20));
        assert_eq!(parse_bandwidth("1G"), Some(1 << 30));
        for wrong in ["", "0", "M", "-1", "1T", "99999999999999G"] {
            assert_eq!(parse_bandwidth(wrong), None, "{wrong}");
        }
    }
}
