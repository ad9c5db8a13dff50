//! The members of an archive that comes as a stream, by the headers in front of them.

use super::super::decoder::Decoder;
use super::super::forward::{Forward as _, Streamed};
use super::super::{ArchiveError, Entry, Form, Kind, Stored, plain_name};
use super::local::{FIXED, Header};
use super::{END, LOCAL, NOT_SPLIT, form_of};
use std::io::{self, BufRead};

/// What the directory at the end begins with: a member, or what zip64 has behind the last one, or a signature.
const DIRECTORY: [&[u8; 4]; 5] = [b"PK\x01\x02", END, b"PK\x06\x06", b"PK\x06\x08", b"PK\x05\x05"];
/// What may stand in front of the sizes behind a member (4.3.9.3).
const DESCRIPTOR: u32 = 0x0807_4b50;

/// The members of a zip archive, one after the other.
pub(in super::super) struct Members<R> {
    input: Streamed<R>,
    ended: bool,
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::damaged(Kind::Zip, what)
}

impl<R: BufRead> Members<R> {
    /// The members of the archive that `input` holds.
    pub(in super::super) fn new(input: R) -> Self {
        Self { input: Streamed::new(input, 0), ended: false }
    }

    /// What the archive is read from.
    pub(in super::super) fn input(&mut self) -> &mut Streamed<R> {
        &mut self.input
    }

    /// Moves on to the next member, all of the last one having been read; `None` behind the last one.
    pub(in super::super) fn advance(&mut self) -> Result<Option<Entry>, ArchiveError> {
        while !self.ended {
            let mut fixed = [0; FIXED];
            self.fill(&mut fixed[..4])?;
            if self.input.position() == 4 && fixed.starts_with(NOT_SPLIT) {
                continue;
            }
            if DIRECTORY.iter().any(|mark| fixed.starts_with(*mark)) {
                self.ended = true;
                break;
            }
            if !fixed.starts_with(LOCAL) {
                return Err(damaged("something else stands between its members"));
            }
            self.fill(&mut fixed[4..])?;
            if let Some(entry) = self.entry(&fixed)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        if self.input.fill(buffer)? < buffer.len() {
            return Err(damaged("it is cut off"));
        }
        Ok(())
    }

    /// The member of a header; `None` where it is a directory.
    fn entry(&mut self, fixed: &[u8]) -> Result<Option<Entry>, ArchiveError> {
        let header = Header::parse(fixed).ok_or_else(|| damaged("a header is not valid"))?;
        let (name, extra) = header.variable();
        let mut variable = vec![0; name + extra];
        self.fill(&mut variable)?;
        let (name, extra) = variable.split_at(name);
        let sizes = header.sizes(extra);
        let form = form_of(header.method, header.flags);
        if sizes.is_none() && !matches!(form, Form::Deflated) {
            return Err(ArchiveError::unsupported(
                Kind::Zip,
                "that can't be read as a stream, since a member does not tell its length; let the server have Range requests, or register a local file",
            ));
        }
        let stored = Stored {
            offset: self.input.position(),
            length: sizes.map(|(stored, _)| stored),
            size: sizes.map(|(_, size)| size),
            crc: sizes.map(|_| header.crc),
            form,
            header: [].into(),
        };
        if name.ends_with(b"/") && stored.length.is_some() {
            self.skip(&stored)?;
            return Ok(None);
        }
        Ok(Some(Entry { name: plain_name(name), stored }))
    }

    fn skip(&mut self, stored: &Stored) -> Result<(), ArchiveError> {
        self.input.skip(stored.length.unwrap_or(0)).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it is cut off in the data of a member"),
            _ => error.into(),
        })
    }

    /// Reads what stands behind a member that did not tell its length, and compares.
    pub(in super::super) fn end(&mut self, decoder: &Decoder) -> Result<(), ArchiveError> {
        let (crc, stored, size) = decoder.found();
        let mut first = self.word()?;
        if first == DESCRIPTOR {
            first = self.word()?;
        }
        let sizes = (self.word()?, self.word()?);
        let right = sizes == (stored as u32, size as u32) || {
            // With 64 bits each, what was read is the first of the two.
            let large = (self.word()?, self.word()?);
            let long = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            (long(sizes.0, sizes.1), long(large.0, large.1)) == (stored, size)
        };
        // Two halves of the same: the length of nothing, in 64 bits, looks like both in 32.
        if first == crc && right {
            return Ok(());
        }
        Err(damaged("a member has a wrong checksum or length"))
    }

    fn word(&mut self) -> Result<u32, ArchiveError> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}
