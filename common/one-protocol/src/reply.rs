//! What a driver prints on success.

use runtime::text::original_bytes;

/// What goes to standard output on success; each line without its line break.
#[derive(Debug, Default)]
pub struct Reply(Vec<Vec<u8>>);

impl Reply {
    /// An empty reply.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// One line. Bytes that were no UTF-8 in the message are these bytes again.
    #[must_use]
    pub fn line(text: &str) -> Self {
        Self::default().and_line(text)
    }

    /// Adds a line.
    #[must_use]
    pub fn and_line(mut self, text: &str) -> Self {
        self.0.push(original_bytes(text));
        self
    }

    /// All lines as they are written, each with its line break.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.0.join(&b'\n');
        if !bytes.is_empty() {
            bytes.push(b'\n');
        }
        bytes
    }
}
