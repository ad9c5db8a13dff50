//! Moves the bytes of data extents from one file to another, the cheapest way that the file systems
//! allow: shared blocks (reflink), a copy made by the file server, or reading and writing at once,
//! with zeroes left out.

use super::ImageError;
use super::observer::{self, Moved};
use super::reader::Reader;
use super::target::{Place, Target};
use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::sys::statfs::{FsType, fstatfs};
use runtime::space::{self, with_space_for_entry};
use runtime::sys;
use std::fs::File;
use std::io;
use std::thread::Scope;

/// Alignment that sharing blocks asks for, bytes. Where a file system's blocks are larger, sharing
/// fails and the bytes are copied.
const SHARED_BLOCK: u64 = 4 << 10;

/// File systems whose server copies without sending the bytes to us and back (`linux/magic.h`):
/// NFS, SMB and Ceph.
const COPYING_SERVERS: [i64; 4] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400];

/// Copies data extents into one target.
#[derive(Debug)]
pub(super) struct Copier<'scope, 'env, 'a> {
    /// Whether blocks can be shared; `None` before it has been tried.
    share: Option<bool>,
    offload: bool,
    scope: &'scope Scope<'scope, 'env>,
    reader: Option<Reader<'a>>,
}

impl<'scope, 'env, 'a: 'scope> Copier<'scope, 'env, 'a> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, target: &Target) -> Self {
        let on_server = fstatfs(target.file()).is_ok_and(|stat| {
            COPYING_SERVERS.iter().any(|&magic| stat.filesystem_type() == FsType(magic))
        });
        // A pipe shares no blocks with any file.
        let share = target.is_stream().then_some(false);
        Self { share, offload: on_server, scope, reader: None }
    }

    /// Copies `length` bytes of `source` at `offset` to the guest offset `guest`, at the latest when
    /// [`Copier::finish`] is called.
    pub(super) fn copy(
        &mut self,
        source: &'a File,
        offset: u64,
        guest: u64,
        length: u64,
        target: &mut Target,
    ) -> Result<(), ImageError> {
        let head = guest.next_multiple_of(SHARED_BLOCK) - guest;
        let aligned = length.saturating_sub(head) / SHARED_BLOCK * SHARED_BLOCK;
        if guest % SHARED_BLOCK != offset % SHARED_BLOCK
            || aligned == 0
            || !(self.can_share(source, offset + head, guest + head, target)? || self.offload)
        {
            return self.read_and_write(source, offset, Place::Guest(guest), length, target);
        }
        self.read_and_write(source, offset, Place::Guest(guest), head, target)?;
        // Clusters get their places in the order of the disk.
        self.finish(target)?;
        let mut done = head;
        while done < head + aligned {
            let left = head + aligned - done;
            let (host, count) = target.place(guest + done, left)?;
            // `place` ends pieces at cluster boundaries, so they stay aligned.
            if self.transfer(source, offset + done, target.file(), host, count)? {
                observer::advance(count);
            } else {
                self.read_and_write(source, offset + done, Place::Host(host), count, target)?;
            }
            done += count;
        }
        let tail = Place::Guest(guest + done);
        self.read_and_write(source, offset + done, tail, length - done, target)
    }

    /// Waits until all that [`Copier::copy`] was asked for has been written.
    pub(super) fn finish(&mut self, target: &mut Target) -> Result<(), ImageError> {
        match &mut self.reader {
            Some(reader) => write_filled(reader, true, target),
            None => Ok(()),
        }
    }

    /// Whether blocks of `source` can be shared, tried out once with one block.
    fn can_share(
        &mut self,
        source: &File,
        offset: u64,
        guest: u64,
        target: &Target,
    ) -> Result<bool, ImageError> {
        if let Some(share) = self.share {
            return Ok(share);
        }
        let place = target.trial_place(guest);
        let share = || sys::clone_range(source, offset, target.file(), place, SHARED_BLOCK);
        let tried = with_space_for_entry(share);
        if let Err(error) = &tried
            && is_final(error)
        {
            return tried.map_err(ImageError::writing(place)).map(|()| false);
        }
        if tried.is_ok() {
            // What is shared takes none.
            space::expect_nothing();
        }
        Ok(*self.share.insert(tried.is_ok()))
    }

    /// Lets the kernel or the server transfer a piece; `false` where neither can.
    fn transfer(
        &mut self,
        source: &File,
        offset: u64,
        file: &File,
        host: u64,
        length: u64,
    ) -> Result<bool, ImageError> {
        if self.share == Some(true) {
            let share = || sys::clone_range(source, offset, file, host, length);
            match with_space_for_entry(share) {
                Ok(()) => {
                    observer::moved(Moved::Shared, length);
                    return Ok(true);
                }
                Err(error) if is_final(&error) => return Err(ImageError::writing(host)(error)),
                Err(_) => self.share = Some(false),
            }
        }
        if !self.offload {
            return Ok(false);
        }
        let mut done = 0;
        while done < length {
            let (mut from, mut to) = ((offset + done) as i64, (host + done) as i64);
            let left = (length - done).min(1 << 30) as usize;
            match copy_file_range(source, Some(&mut from), file, Some(&mut to), left) {
                Ok(0) => break,
                Ok(count) => {
                    observer::moved(Moved::Read, count as u64);
                    observer::moved(Moved::Written, count as u64);
                    done += count as u64;
                }
                Err(errno)
                    if space::is_exhausted(&errno.into())
                        && space::make(lacking(file, left as u64)) => {}
                Err(errno) if is_final(&errno.into()) => {
                    return Err(ImageError::writing(host + done)(errno.into()));
                }
                Err(_) => {
                    self.offload = false;
                    return Ok(false);
                }
            }
        }
        Ok(done == length)
    }

    fn read_and_write(
        &mut self,
        source: &'a File,
        offset: u64,
        place: Place,
        length: u64,
        target: &mut Target,
    ) -> Result<(), ImageError> {
        if length == 0 {
            return Ok(());
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let started = Reader::start(self.scope, target.write_size());
                none.insert(started.map_err(ImageError::reading(offset))?)
            }
        };
        let mut done = 0;
        while done < length {
            done += reader.ask(source, offset + done, place.plus(done), length - done);
            write_filled(reader, false, target)?;
        }
        Ok(())
    }
}

/// Writes what has been read: enough that more can be asked for, or, at the `end`, all.
fn write_filled(reader: &mut Reader, end: bool, target: &mut Target) -> Result<(), ImageError> {
    while let Some(batch) = reader.filled(end)? {
        for (place, bytes) in batch.pieces() {
            target.write_sparsely(place, bytes)?;
        }
        reader.recycle(batch);
    }
    Ok(())
}

/// How many of so many bytes have no place where `file` lies; at least one.
fn lacking(file: &File, bytes: u64) -> u64 {
    bytes.saturating_sub(space::available(file)).max(1)
}

/// Errors that another way of copying would meet as well.
fn is_final(error: &io::Error) -> bool {
    [Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS, Errno::EFBIG]
        .iter()
        .any(|&errno| error.raw_os_error() == Some(errno as i32))
}
