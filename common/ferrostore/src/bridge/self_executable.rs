//! This executable, as it is compared with the one on another host, and sent.

use super::BridgeError;
use crate::transfer::digest::hexadecimal;
use runtime::sys::EXECUTABLE;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

/// The executable.
#[derive(Debug)]
pub(super) struct SelfExecutable {
    /// SHA-256 digest in lower-case hexadecimal digits.
    pub(super) digest: String,
    /// Bytes.
    pub(super) size: u64,
}

static SELF: OnceLock<io::Result<SelfExecutable>> = OnceLock::new();

/// Begins to make the digest, which takes no longer than the way to another host.
pub(super) fn start_digest() {
    // Without the thread it is made when it is needed.
    let _ = std::thread::Builder::new().spawn(|| SELF.get_or_init(digest).is_ok());
}

/// The executable, once its digest is there.
///
/// # Errors
/// [`BridgeError::SelfExecutable`].
pub(super) fn get() -> Result<&'static SelfExecutable, BridgeError> {
    SELF.get_or_init(digest)
        .as_ref()
        .map_err(|error| BridgeError::SelfExecutable(error.kind().into()))
}

impl SelfExecutable {
    /// Writes the executable to `out`.
    ///
    /// # Errors
    /// As reading and writing.
    pub(super) fn send(&self, out: &mut dyn Write) -> io::Result<()> {
        io::copy(&mut File::open(EXECUTABLE)?.take(self.size), out)?;
        out.flush()
    }
}

fn digest() -> io::Result<SelfExecutable> {
    let mut file = File::open(EXECUTABLE)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    Ok(SelfExecutable { digest: hexadecimal(&hasher.finalize()), size })
}
