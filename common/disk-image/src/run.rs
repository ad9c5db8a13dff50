//! The bytes of a disk one after the other, zeroes as their number only.

/// Some of a disk's bytes.
#[derive(Debug, Clone, Copy)]
pub enum Run<'b> {
    /// These.
    Bytes(&'b [u8]),
    /// So many zeroes, which were not read.
    Zeroes(u64),
}
