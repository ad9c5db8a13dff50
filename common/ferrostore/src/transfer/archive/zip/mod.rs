//! zip archives (APPNOTE.TXT 6.3.10), stored or deflated, zip64 too.

mod directory;
mod local;
mod passing;

pub(super) use directory::{list, locate};
pub(super) use passing::Members;

use super::Form;

const LOCAL: &[u8; 4] = b"PK\x03\x04";
/// What an archive that was once meant to be split begins with.
const NOT_SPLIT: &[u8; 4] = b"PK00";
/// The end of the central directory: all that an archive of nothing has.
const END: &[u8; 4] = b"PK\x05\x06";

/// Whether `head` is the start of a zip archive: no disk begins like one, so a damaged one is an archive too.
pub(super) fn begins(head: &[u8]) -> bool {
    let head = head.strip_prefix(NOT_SPLIT).unwrap_or(head);
    head.starts_with(END) || head.starts_with(LOCAL)
}

/// How a member is stored, by its method and its flags (4.4.4 and 4.4.5).
fn form_of(method: u16, flags: u16) -> Form {
    if flags & 1 != 0 {
        return Form::Unreadable("encrypted");
    }
    match method {
        0 => Form::Plain,
        8 => Form::Deflated,
        9 => Form::Unreadable("compressed with deflate64"),
        12 => Form::Unreadable("compressed with bzip2"),
        14 => Form::Unreadable("compressed with lzma"),
        93 => Form::Unreadable("compressed with zstd"),
        95 => Form::Unreadable("compressed with xz"),
        _ => Form::Unreadable("compressed with a method that isn't known here"),
    }
}
