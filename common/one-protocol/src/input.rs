//! Where the message of a call comes from.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;

/// Why the message can't be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Reading failed.
    #[error("the message can't be read from {place}: {source}")]
    Unreadable {
        /// A file, or standard input.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Standard input is a terminal.
    #[error(
        "no message: give it on standard input, as an argument or with --message FILE (--help shows examples)"
    )]
    Terminal,
}

/// Where the message of a call is.
#[derive(Debug)]
pub enum MessageSource {
    /// On standard input.
    StandardInput,
    /// In a file.
    File(PathBuf),
    /// On the command line.
    Argument(Vec<u8>),
}

impl MessageSource {
    /// Reads the message, in base64 or as XML.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn read(self) -> Result<Vec<u8>, InputError> {
        match self {
            Self::Argument(bytes) => Ok(bytes),
            Self::File(path) => std::fs::read(&path).map_err(|source| InputError::Unreadable {
                place: path.display().to_string(),
                source,
            }),
            Self::StandardInput if io::stdin().is_terminal() => Err(InputError::Terminal),
            Self::StandardInput => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map_err(|source| {
                    InputError::Unreadable { place: "standard input".into(), source }
                })?;
                Ok(bytes)
            }
        }
    }
}

/// Reads standard input to its end, so that a caller that writes a message which is not read gets no EPIPE.
///
/// # Errors
/// As reading.
pub fn drain_standard_input() -> io::Result<()> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        io::copy(&mut stdin.lock(), &mut io::sink())?;
    }
    Ok(())
}
