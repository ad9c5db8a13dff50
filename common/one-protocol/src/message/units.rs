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
}
