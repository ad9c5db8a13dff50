//! The content of a member that is known to be in an archive, and where.

use super::decoder::Decoder;
use super::forward::{Forward as _, Streamed};
use super::manifest::{Digesting, Expected};
use super::{ArchiveError, Kind, Stored, choice};
use std::collections::VecDeque;
use std::io::{self, BufReader, Read};

/// An archive is read in pieces of this size, bytes.
pub(super) const PIECE: usize = 256 << 10;

pub(super) type Input = BufReader<Box<dyn Read + Send>>;

/// Opens an archive at an offset.
pub type SourceOpener = Box<dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Send>;

/// A part of a member, or all of it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) stored: Stored,
    pub(super) digest: Option<Expected>,
}

/// Reads the content of a member. Its end comes only where its digest is right.
pub struct MemberReader {
    kind: Kind,
    source: Source,
    parts: VecDeque<Part>,
    current: Option<Current>,
}

enum Source {
    /// An archive of which any part can be reached.
    File { open: SourceOpener, input: Option<Streamed<Input>> },
    /// An archive that passes by.
    Stream(Streamed<Input>),
}

impl MemberReader {
    /// The parts of a member of an archive that `open` opens.
    pub(super) fn of_file(kind: Kind, parts: &[Part], open: SourceOpener) -> Self {
        let parts = parts.iter().cloned().collect();
        Self { kind, source: Source::File { open, input: None }, parts, current: None }
    }

    /// The parts of a member of the archive that `stream` holds. In the end all of that has been read.
    pub(super) fn of_stream(kind: Kind, parts: &[Part], stream: Box<dyn Read + Send>) -> Self {
        let stream = Streamed::new(BufReader::with_capacity(PIECE, stream), 0);
        let parts = parts.iter().cloned().collect();
        Self { kind, source: Source::Stream(stream), parts, current: None }
    }

    fn next_part(&mut self) -> io::Result<bool> {
        let Some(part) = self.parts.pop_front() else {
            if let Source::Stream(stream) = &mut self.source {
                stream.drain()?;
            }
            return Ok(false);
        };
        let start = part.stored.offset;
        match &mut self.source {
            Source::File { open, input } => {
                *input = Some(Streamed::new(BufReader::with_capacity(PIECE, open(start)?), start));
            }
            Source::Stream(stream) => check_place(self.kind, stream, &part.stored)?,
        }
        self.current =
            Some(Current::new(self.kind, &part.stored, part.digest.map(Digesting::expecting))?);
        Ok(true)
    }
}

/// Passes over what is in front of a member, whose header must be what it was.
fn check_place(kind: Kind, stream: &mut Streamed<Input>, stored: &Stored) -> io::Result<()> {
    let before = stored.offset - (stored.header.len() as u64).min(stored.offset);
    let Some(ahead) = before.checked_sub(stream.position()) else {
        return Err(ArchiveError::unsupported(
            kind,
            "whose parts are not in their order; register a local file",
        )
        .into());
    };
    let mut header = vec![0; stored.header.len()];
    let came = stream.skip(ahead).and_then(|()| stream.fill(&mut header));
    match came {
        Ok(count) if header[..count] == *stored.header => Ok(()),
        Ok(_) => Err(choice::changed(kind).into()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(choice::changed(kind).into())
        }
        Err(error) => Err(error),
    }
}

impl Read for MemberReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = match &mut self.source {
                Source::File { input, .. } => input.as_mut(),
                Source::Stream(stream) => Some(stream),
            };
            if let (Some(current), Some(input)) = (&mut self.current, input) {
                let count = current.read(input, buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                if let Some(digested) = self.current.take().and_then(|mut one| one.digested()) {
                    digested.verify()?;
                }
            }
            if !self.next_part()? {
                return Ok(0);
            }
        }
    }
}

/// A member, or a part of one, that is being read.
pub(super) struct Current {
    decoder: Decoder,
    /// Stored bytes that are left, where that is known.
    left: Option<u64>,
    digesting: Option<Digesting>,
}

impl Current {
    pub(super) fn new(
        kind: Kind,
        stored: &Stored,
        digesting: Option<Digesting>,
    ) -> Result<Self, ArchiveError> {
        Ok(Self { decoder: Decoder::new(kind, stored)?, left: stored.length, digesting })
    }

    /// The next bytes of content; none at its end.
    pub(super) fn read(
        &mut self,
        input: &mut Streamed<Input>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let count = match &mut self.left {
            None => self.decoder.read(input, buffer)?,
            Some(left) => {
                let mut limited = input.take(*left);
                let count = self.decoder.read(&mut limited, buffer)?;
                *left = limited.limit();
                count
            }
        };
        if let Some(digesting) = &mut self.digesting {
            digesting.update(&buffer[..count]);
        }
        Ok(count)
    }

    /// What tells how much was read, for members that did not say it.
    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Whether its length was known before it was read.
    pub(super) fn told_its_length(&self) -> bool {
        self.left.is_some()
    }

    /// Its digests, once all of it has been read.
    pub(super) fn digested(&mut self) -> Option<super::manifest::Digested> {
        self.digesting.take().map(Digesting::finish)
    }

    /// Passes over what is left of it.
    pub(super) fn pass_over(&mut self, input: &mut Streamed<Input>) -> io::Result<()> {
        if let Some(left) = self.left.replace(0) {
            return input.skip(left);
        }
        self.left = None;
        let mut buffer = vec![0; 64 << 10];
        while self.read(input, &mut buffer)? > 0 {}
        Ok(())
    }
}
