//! What a server says that it has done to a file (`Content-Encoding`, RFC 9110, 8.4), though it was asked to do
//! nothing. An encoding is not undone here: the bytes are the file, and what they are is seen by themselves.

use super::{HttpError, text};
use std::io::{self, Read};
use ureq::Body;
use ureq::http::{Response, header};

/// What begins a file of an encoding.
pub(super) type Magic = &'static [u8];

/// What servers say of files that are as they should be, or are compressed themselves.
const HARMLESS: [&str; 12] = [
    "",
    "identity",
    "none",
    "gzip",
    "x-gzip",
    "bzip2",
    "x-bzip2",
    "xz",
    "x-xz",
    "binary",
    "utf-8",
    "aws-chunked",
];
const ZSTD: Magic = b"\x28\xb5\x2f\xfd";

/// What the file in a response must begin with for its encoding to be one that is read here.
///
/// # Errors
/// Where it has an encoding that nothing here undoes: its bytes are not those of the file.
pub(super) fn expected(response: &Response<Body>) -> Result<Option<Magic>, HttpError> {
    let value = text(response, header::CONTENT_ENCODING).unwrap_or_default();
    let mut magic = None;
    for name in value.split(',').map(str::trim) {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "zstd" => magic = Some(ZSTD),
            known if HARMLESS.contains(&known) => {}
            _ => return Err(HttpError::Encoding(runtime::text::one_line(name))),
        }
    }
    Ok(magic)
}

/// `body`, which must begin with `magic`.
///
/// # Errors
/// Where it doesn't, or can't be read.
pub(super) fn checked(
    mut body: Box<dyn Read + Send>,
    magic: Option<Magic>,
) -> Result<Box<dyn Read + Send>, HttpError> {
    let Some(magic) = magic else { return Ok(body) };
    let mut start = Vec::new();
    let read = body.by_ref().take(magic.len() as u64).read_to_end(&mut start);
    read.map_err(|_| HttpError::HungUp)?;
    check_start(&start, Some(magic))?;
    Ok(Box::new(io::Cursor::new(start).chain(body)))
}

/// That the first bytes of a file are those of its encoding.
///
/// # Errors
/// Where they are not.
pub(super) fn check_start(start: &[u8], magic: Option<Magic>) -> Result<(), HttpError> {
    match magic {
        Some(magic) if !start.starts_with(magic) => Err(HttpError::Encoding("zstd".to_owned())),
        _ => Ok(()),
    }
}
