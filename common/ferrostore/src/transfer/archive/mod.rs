//! Archives around a disk: tar (ustar, GNU, PAX, sparse), zip, and appliances (OVA), which are one of these.
//!
//! Nothing is ever unpacked by name. A member is a window of the archive (`Stored`) of which the bytes are
//! read, so names, links and owners are without effect. Where all of an archive can be reached it is looked
//! through first ([`Survey`]); where it comes as a stream, the member is taken as it passes by ([`Passing`]).

mod choice;
mod decoder;
mod error;
mod forward;
mod manifest;
mod member;
mod ovf;
mod passing;
mod survey;
mod tar;
mod unread;
mod zip;

pub use choice::Choice;
pub use error::ArchiveError;
pub(crate) use error::NESTED;
pub use member::{MemberReader, SourceOpener};
pub use ovf::Ovf;
pub use passing::Passing;
pub use survey::{Found, Survey};

use std::sync::Arc;

/// A kind of archive that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// POSIX.1-2001 (pax), ustar, GNU tar, and what was before.
    Tar,
    /// APPNOTE.TXT.
    Zip,
}

impl Kind {
    /// Its usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }

    /// The kind of archive that begins with `head`, at least 1 KiB where the file has that much.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        if zip::begins(head) {
            Some(Self::Zip)
        } else if tar::begins(head) {
            Some(Self::Tar)
        } else {
            None
        }
    }

    /// As [`Kind::of`], with an error for archives and compressed files that are not read.
    ///
    /// # Errors
    /// [`ArchiveError::NotRead`].
    pub fn of_image(head: &[u8]) -> Result<Option<Self>, ArchiveError> {
        match unread::unread(head) {
            Some(name) => Err(ArchiveError::NotRead(name)),
            None => Ok(Self::of(head)),
        }
    }
}

/// Members of an archive at most: what has more is refused.
const MOST_MEMBERS: usize = 10_000;
/// Longest name that is kept, bytes.
const LONGEST_NAME: usize = 4 << 10;
/// Memory for names at most, bytes.
const NAMES: usize = 4 << 20;

/// A regular file in an archive.
#[derive(Debug, Clone)]
struct Entry {
    /// Its name, to be shown and compared only.
    name: String,
    stored: Stored,
}

/// Where and how the content of a member is stored.
#[derive(Debug, Clone)]
struct Stored {
    /// Where it begins, bytes from the start of the archive.
    offset: u64,
    /// How many bytes are stored; `None` where only reading tells.
    length: Option<u64>,
    /// How many bytes the content has; `None` where only reading tells.
    size: Option<u64>,
    /// CRC-32 of the content.
    crc: Option<u32>,
    form: Form,
    /// What stands right before the content, to know it again.
    header: Arc<[u8]>,
}

/// In which form content is stored.
#[derive(Debug, Clone)]
enum Form {
    /// As it is.
    Plain,
    /// Without its holes: start and length of the data between them, bytes.
    Sparse(Arc<[(u64, u64)]>),
    /// By RFC 1951.
    Deflated,
    /// In a way that isn't read, by its name.
    Unreadable(&'static str),
}

/// The name of a member as it is shown and compared: without `./` in front.
fn plain_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]);
    let mut name = name.as_ref();
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.trim_start_matches('/');
    }
    name.to_owned()
}

/// Whether `name` ends in `.suffix`, in whatever case.
fn has_suffix(name: &str, suffix: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(suffix))
}
