//! The content of a member, out of the bytes that are stored for it.

use super::{ArchiveError, Form, Kind, Stored};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// Decodes one member.
pub(super) struct Decoder {
    kind: Kind,
    form: State,
    /// Bytes of content so far.
    produced: u64,
    /// Bytes of content in all, where that is known.
    size: Option<u64>,
    crc: Crc,
    expected_crc: Option<u32>,
    ended: bool,
}

enum State {
    Plain,
    Sparse { runs: Arc<[(u64, u64)]>, next: usize },
    Deflated(Box<Decompress>),
}

impl Decoder {
    /// Decodes the member that is `stored` in an archive of `kind`.
    ///
    /// # Errors
    /// Where it is stored in a way that isn't read.
    pub(super) fn new(kind: Kind, stored: &Stored) -> Result<Self, ArchiveError> {
        let form = match &stored.form {
            Form::Plain => State::Plain,
            Form::Sparse(runs) => State::Sparse { runs: Arc::clone(runs), next: 0 },
            Form::Deflated => State::Deflated(Box::new(Decompress::new(false))),
            Form::Unreadable(how) => {
                return Err(ArchiveError::unsupported(
                    kind,
                    format!(
                        "whose member is {how}; make it again with the usual compression (deflate) or none"
                    ),
                ));
            }
        };
        let (size, expected_crc) = (stored.size, stored.crc);
        Ok(Self { kind, form, produced: 0, size, crc: Crc::new(), expected_crc, ended: false })
    }

    /// The next bytes of content; none at its end. `input` holds what is stored, and nothing else unless only
    /// decoding tells where it ends.
    pub(super) fn read(
        &mut self,
        input: &mut impl BufRead,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.form {
            State::Plain => input.read(buffer)?,
            State::Sparse { runs, next } => {
                read_sparsely(input, buffer, (runs, next), self.produced, self.size.unwrap_or(0))?
            }
            State::Deflated(inflate) => inflated(inflate, input, buffer).map_err(|error| {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.damaged("its compressed data is not valid")
                } else {
                    error
                }
            })?,
        };
        self.produced += count as u64;
        if self.size.is_some_and(|size| self.produced > size) {
            return Err(self.damaged("a member is longer than it says"));
        }
        if self.expected_crc.is_some() || self.size.is_none() {
            self.crc.update(&buffer[..count]);
        }
        if count == 0 {
            self.end()?;
        }
        Ok(count)
    }

    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        if self.size.is_some_and(|size| self.produced < size) {
            return Err(self.damaged("it is cut off in the data of a member"));
        }
        if self.expected_crc.is_some_and(|crc| crc != self.crc.sum()) {
            return Err(self.damaged("a member has a wrong checksum"));
        }
        Ok(())
    }

    /// CRC-32 and length of the content, and length of what it was compressed to, of a member of which nothing was
    /// known before.
    pub(super) fn found(&self) -> (u32, u64, u64) {
        let stored = match &self.form {
            State::Deflated(inflate) => inflate.total_in(),
            _ => self.produced,
        };
        (self.crc.sum(), stored, self.produced)
    }

    fn damaged(&self, what: &str) -> io::Error {
        ArchiveError::damaged(self.kind, what).into()
    }
}

/// Reads at `position` of a member of `size` bytes with holes.
fn read_sparsely(
    input: &mut impl Read,
    buffer: &mut [u8],
    (runs, next): (&[(u64, u64)], &mut usize),
    position: u64,
    size: u64,
) -> io::Result<usize> {
    let most = buffer.len() as u64;
    while let Some((start, length)) = runs.get(*next) {
        if position < *start {
            let count = most.min(start - position) as usize;
            buffer[..count].fill(0);
            return Ok(count);
        }
        let left = start + length - position;
        if left == 0 {
            *next += 1;
            continue;
        }
        let count = input.read(&mut buffer[..most.min(left) as usize])?;
        // None are too few, which the end of the member tells.
        return Ok(count);
    }
    let count = most.min(size - position) as usize;
    buffer[..count].fill(0);
    Ok(count)
}

fn inflated(
    inflate: &mut Decompress,
    input: &mut impl BufRead,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        let bytes = input.fill_buf()?;
        let (taken, made) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(bytes, buffer, FlushDecompress::None)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let (taken, made) = (inflate.total_in() - taken, inflate.total_out() - made);
        input.consume(taken as usize);
        if made > 0 || status == Status::StreamEnd {
            return Ok(made as usize);
        }
        if taken == 0 {
            // Neither does it go on, nor is that its end.
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}
