//! Memory that begins at a page, which devices take past the page cache (`O_DIRECT`, `open(2)`).

use std::ops::{Deref, DerefMut};

/// Alignment of the buffer's first byte, bytes.
const PAGE: usize = 4 << 10;

/// Some bytes, the first of them at the beginning of a page.
#[derive(Debug, Default)]
pub(super) struct PageBuffer {
    /// Up to a page more than is used.
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl PageBuffer {
    /// Makes it `length` bytes long. What it holds then is of no meaning.
    pub(super) fn resize(&mut self, length: usize) {
        if self.length != length {
            self.memory = vec![0; length + PAGE];
            self.start = self.memory.as_ptr().addr().wrapping_neg() % PAGE;
            self.length = length;
        }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_and_is_as_long_as_asked() {
        let mut buffer = PageBuffer::default();
        assert!(buffer.is_empty());
        for length in [1, 4096, 5000, 1 << 20] {
            buffer.resize(length);
            buffer.fill(7);
            assert_eq!(buffer.len(), length);
            assert!(buffer.as_ptr().addr().is_multiple_of(PAGE), "{length}");
        }
    }
}
