//! tar archives: ustar, GNU, pax, and what was before them.

mod header;
mod pax;
mod sparse;

use super::forward::Forward;
use super::{ArchiveError, Entry, Form, Kind, LONGEST_NAME, Stored, plain_name};
use header::{BLOCK, Block, Header};
use pax::Extended;

/// Longest extended header that is read, bytes.
const LARGEST_EXTENDED: u64 = 1 << 20;
/// Headers at most that belong to one member.
const MOST_HEADERS: usize = 32;

/// Whether `head` is the start of a tar archive: a header with its checksum and its magic, or without that magic, and
/// behind its data, as far as that is to be seen, another one or the end.
pub(super) fn begins(head: &[u8]) -> bool {
    let block = |at: usize| head.get(at..at + BLOCK).and_then(|block| Block::try_from(block).ok());
    let Some(first) = block(0).and_then(|block| Header::parse(&block).ok()) else { return false };
    let known = matches!(first.kind, 0 | b'0'..=b'7' | b'A'..=b'Z' | b'g' | b'x');
    let named = first.name.first().is_some_and(|&byte| byte > b' ');
    if !known || !named {
        return false;
    }
    let links = matches!(first.kind, b'1');
    let data = if links { 0 } else { first.size.div_ceil(BLOCK as u64) };
    let next =
        usize::try_from(data).ok().and_then(|blocks| blocks.checked_add(1)?.checked_mul(BLOCK));
    let next = next.and_then(block);
    // A magic and a sum are enough: what is damaged further on is an archive too. Without a magic it takes more.
    if first.block[257..262] == *b"ustar" {
        return true;
    }
    let field = |range: std::ops::Range<usize>| header::number(&first.block[range]).is_some();
    [100..108, 108..116, 116..124, 136..148].into_iter().all(field)
        && next.is_none_or(|next| {
            first.kind == b'S' || next == [0; BLOCK] || header::has_checksum(&next)
        })
}

/// The members of a tar archive, one after the other.
pub(super) struct Members<F> {
    input: F,
    /// Where the next header is.
    next: u64,
    ended: bool,
}

impl<F: Forward> Members<F> {
    /// The members of the archive that `input` holds.
    pub(super) fn new(input: F) -> Self {
        Self { input, next: 0, ended: false }
    }

    /// What the archive is read from; it may be read further up to where the content of the last member ends.
    pub(super) fn input(&mut self) -> &mut F {
        &mut self.input
    }

    /// Moves on to the next member; `None` behind the last one.
    pub(super) fn advance(&mut self) -> Result<Option<Entry>, ArchiveError> {
        while !self.ended {
            let mut extended = Extended::default();
            let mut long_name = None;
            for _ in 0..MOST_HEADERS {
                let Some(header) = self.header()? else {
                    self.ended = true;
                    return Ok(None);
                };
                match header.kind {
                    b'L' => long_name = Some(self.extension(&header, LONGEST_NAME as u64 + 1)?),
                    b'K' | b'N' | b'V' | b'g' => {}
                    b'x' | b'X' => extended.add(&self.extension(&header, LARGEST_EXTENDED)?)?,
                    b'M' => {
                        return Err(ArchiveError::unsupported(
                            Kind::Tar,
                            "that begins in another file; put its parts together",
                        ));
                    }
                    _ => match self.member(&header, extended, long_name)? {
                        Some(entry) => return Ok(Some(entry)),
                        None => break,
                    },
                }
            }
        }
        Ok(None)
    }

    /// The next header, behind the data of the one before; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let ahead = self.next.saturating_sub(self.input.position());
        self.input.skip(ahead).map_err(cut_off)?;
        let mut block = [0; BLOCK];
        match self.input.fill(&mut block)? {
            0 => return Ok(None),
            BLOCK if block == [0; BLOCK] => return Ok(None),
            BLOCK => {}
            _ => return Err(ArchiveError::damaged(Kind::Tar, "it is cut off in a header")),
        }
        let header = Header::parse(&block)?;
        self.set_next(self.input.position(), header.size)?;
        Ok(Some(header))
    }

    /// The next header is behind `size` bytes that begin at `start`, in whole blocks.
    fn set_next(&mut self, start: u64, size: u64) -> Result<(), ArchiveError> {
        let next =
            size.checked_next_multiple_of(BLOCK as u64).and_then(|size| start.checked_add(size));
        self.next = next
            .filter(|&next| next < 1 << 63)
            .ok_or_else(|| ArchiveError::damaged(Kind::Tar, "a member has no valid size"))?;
        Ok(())
    }

    /// The data of a header that is about the next member.
    fn extension(&mut self, header: &Header, most: u64) -> Result<Vec<u8>, ArchiveError> {
        if header.size > most {
            return Err(ArchiveError::damaged(Kind::Tar, "an extended header is too long"));
        }
        let mut bytes = vec![0; header.size as usize];
        if self.input.fill(&mut bytes)? < bytes.len() {
            return Err(cut_off(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    fn block(&mut self) -> Result<Block, ArchiveError> {
        let mut block = [0; BLOCK];
        match self.input.fill(&mut block)? {
            BLOCK => Ok(block),
            _ => Err(cut_off(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The member of a header; `None` where it is no regular file.
    fn member(
        &mut self,
        header: &Header,
        extended: Extended,
        long_name: Option<Vec<u8>>,
    ) -> Result<Option<Entry>, ArchiveError> {
        let start = self.input.position();
        // A hard link has no data, whatever it says: so GNU tar takes it.
        let size = if header.kind == b'1' { 0 } else { extended.size.unwrap_or(header.size) };
        self.set_next(start, size)?;
        let mut stored = Stored {
            offset: start,
            length: Some(size),
            size: Some(size),
            crc: None,
            form: Form::Plain,
            header: header.block.as_slice().into(),
        };
        match header.kind {
            0 | b'0' | b'7' => self.pax_sparse(&extended, size, &mut stored)?,
            b'S' => {
                let (map, full) = sparse::of_header(&header.block, || self.block())?;
                // The blocks of the map don't count as data.
                stored.offset = self.input.position();
                self.set_next(stored.offset, size)?;
                stored.form = Form::Sparse(sparse::runs(&map, full, size)?.into());
                stored.size = Some(full);
            }
            _ => return Ok(None),
        }
        let long_name =
            long_name.map(|name| name.split(|&b| b == 0).next().unwrap_or_default().to_vec());
        let name = extended.name().or(long_name);
        let name = plain_name(name.as_deref().unwrap_or(&header.name));
        // Before there were directories, a name told them.
        Ok((!name.ends_with('/')).then_some(Entry { name, stored }))
    }

    /// What extended headers say of holes.
    fn pax_sparse(
        &mut self,
        extended: &Extended,
        size: u64,
        stored: &mut Stored,
    ) -> Result<(), ArchiveError> {
        let Some(full) = extended.sparse.size else { return Ok(()) };
        let (map, taken) = if extended.sparse.map_in_data {
            let mut left = size / BLOCK as u64;
            let (map, taken) = sparse::in_front(|| {
                left = left.checked_sub(1).ok_or_else(|| {
                    ArchiveError::damaged(Kind::Tar, "a sparse member has no map")
                })?;
                self.block()
            })?;
            stored.offset = self.input.position();
            (map, taken)
        } else {
            (extended.sparse.map.clone(), 0)
        };
        stored.length = Some(size - taken);
        stored.form = Form::Sparse(sparse::runs(&map, full, size - taken)?.into());
        stored.size = Some(full);
        Ok(())
    }
}

fn cut_off(error: std::io::Error) -> ArchiveError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return ArchiveError::damaged(Kind::Tar, "it is cut off in the data of a member");
    }
    error.into()
}
