//! What a driver and its process with librbd say to each other.
//!
//! A request is one byte, for [`CREATE`] with the size behind it, for [`IMPORT`] with a stream of differences. Numbers
//! have the lowest byte first.

use crate::command::running::LONGEST_REPORT;
use std::io::{self, Read, Write};

/// How the process is called, by which the executable knows what it is to do.
pub(super) const NAME: &str = "ferrostore-librbd";
/// Asks for the names of all images.
pub(super) const LIST: u8 = b'l';
/// Asks for the temporary image.
pub(super) const CREATE: u8 = b'c';
/// Asks to fill it.
pub(super) const IMPORT: u8 = b'i';
/// Asks to give it the name of the image.
pub(super) const RENAME: u8 = b'r';
/// Code of a reply: librbd is not here.
pub(super) const MISSING: i32 = -1;

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// 0, an error number of the system, or [`MISSING`].
    pub(super) code: i32,
    /// Names, each followed by a byte 0; or a reason.
    pub(super) payload: Vec<u8>,
}

impl Reply {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = self.code.to_le_bytes().to_vec();
        bytes.extend((self.payload.len() as u32).to_le_bytes());
        bytes.extend(&self.payload);
        to.write_all(&bytes)
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// Where it is not whole, or too long.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (mut code, mut length) = ([0; 4], [0; 4]);
        from.read_exact(&mut code)?;
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if u64::from(length) > LONGEST_REPORT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        Ok(Self { code: i32::from_le_bytes(code), payload })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        for payload in [b"".to_vec(), b"one-1\0one-2\0".to_vec()] {
            let reply = Reply { code: 17, payload };
            let mut bytes = Vec::new();
            reply.write(&mut bytes).unwrap();
            assert_eq!(Reply::read(&mut bytes.as_slice()).unwrap(), reply);
        }
    }

    #[test]
    fn a_reply_that_is_cut_off_or_too_long_is_an_error() {
        let mut bytes = Vec::new();
        Reply { code: 0, payload: b"one-1".to_vec() }.write(&mut bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(Reply::read(&mut &bytes[..length]).is_err(), "{length} bytes");
        }
        let too_long = [[0; 4], [0xff; 4]].concat();
        assert!(Reply::read(&mut too_long.as_slice()).is_err());
    }
}
