//! Images in formats that only qemu-img reads. It hands over a raw disk, which is checked; every other format
//! is written here.

use super::import::Import;
use super::{check_writeback, reading};
use crate::kinds::DatastoreError;
use disk_image::raw::{RawDisk, SECTOR};
use disk_image::{Content, Format, ImageError};
use runtime::command::{self, CommandError};
use runtime::space::{self, Expectation};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// qemu-img leaves zeroes out. So large a part without any byte in what it handed over, where the image holds
/// data, is worth a second look, bytes.
const SUSPICIOUS: u64 = 1 << 20;

/// A raw file may be so much longer than its disk while it is written, bytes.
const SLACK: u64 = 1 << 20;

impl Import<'_> {
    /// An image that only qemu-img reads, of a disk of `size` bytes.
    pub(super) fn convert_foreign(
        &mut self,
        file: &File,
        format: Format,
        wanted: Format,
        size: u64,
    ) -> Result<Format, DatastoreError> {
        command::qemu_img()?;
        crate::progress::begin(0);
        let foreign = Foreign { file, format, size };
        if wanted == Format::Raw && !self.destination.is_stream() {
            let mut target = self.destination.begin(wanted, Some(size))?;
            target.clear()?;
            foreign.deliver(target.file())?;
            if !self.sparse {
                target.finish(size.next_multiple_of(SECTOR))?;
            }
            return Ok(wanted);
        }
        let staged = self.destination.stage()?;
        foreign.deliver(staged.file())?;
        let raw = RawDisk::open(staged.file().try_clone().map_err(reading)?).map_err(reading)?;
        self.write(&raw, wanted)?;
        check_writeback(staged.file())?;
        Ok(wanted)
    }
}

/// An image that only qemu-img reads.
struct Foreign<'f> {
    file: &'f File,
    format: Format,
    /// Size of its disk by its header, bytes.
    size: u64,
}

impl Foreign<'_> {
    /// Has qemu-img write the disk into `target`, an empty file or a device that reads as zero, and checks that all
    /// of it is there.
    fn deliver(&self, target: &File) -> Result<(), DatastoreError> {
        let is_file = target.metadata().map_err(reading)?.is_file();
        let size = self.size.next_multiple_of(SECTOR);
        if is_file {
            target.set_len(size).map_err(writing)?;
        }
        let largest = size.saturating_add(SLACK);
        let _expected = self.expect(target);
        // What it has written before is what it writes again.
        let run = || command::qemu_img_to_raw(self.file, self.format.name(), target, largest);
        let delivered = space::with_space_for_program(run, CommandError::is_out_of_space)
            .map_err(|error| explained(error, self.format))
            .and_then(|()| self.check(target, is_file));
        // The ruleset around the program holds the file for a moment longer: its space shall be free now.
        delivered.inspect_err(|_| drop(target.set_len(0)))
    }

    /// Has it be counted, should the disk be full, how much `target` needs yet.
    fn expect(&self, target: &File) -> Option<Expectation> {
        if !space::has_maker() {
            return None;
        }
        let Self { file, format, size } = *self;
        let (file, written) = (file.try_clone().ok()?, target.try_clone().ok()?);
        let expected = space::expect(move |_| {
            let allocated = written.metadata().map_or(0, |metadata| metadata.blocks() * 512);
            let mut data = 0;
            let _ = command::qemu_img_map(&file, format.name(), |start, end| data += end - start);
            data.min(size).saturating_sub(allocated)
        });
        space::prepare(target, Some(size));
        Some(expected)
    }

    /// Checks what was delivered: a device has no holes by which it could be told what is missing.
    fn check(&self, target: &File, is_file: bool) -> Result<(), DatastoreError> {
        let Self { file, size, .. } = *self;
        let format = self.format.name();
        let raw = RawDisk::open(target.try_clone().map_err(reading)?).map_err(reading)?;
        let mut missing = Ok(None);
        let found = command::qemu_img_map(file, format, |start, end| {
            if is_file && matches!(missing, Ok(None)) {
                missing = first_missing(&raw, start, end.min(raw.length()));
            }
        })
        .map_err(|error| explained(error, self.format))?;
        // Disks consist of whole sectors.
        let length = if is_file { raw.length() } else { found };
        if found.abs_diff(size) >= SECTOR || length != size.next_multiple_of(SECTOR) {
            return Err(incomplete(format!(
                "{length} bytes of a disk of {found}, which has {size} by the header of the {format} image"
            )));
        }
        let is_same = || {
            command::qemu_img_is_same(file, format, target)
                .map_err(|error| explained(error, self.format))
        };
        match missing? {
            Some(at) if !is_same()? => {
                Err(incomplete(format!("a disk without the data that it has from byte {at} on")))
            }
            _ => Ok(()),
        }
    }
}

fn incomplete(what: String) -> DatastoreError {
    CommandError::Incomplete { program: "qemu-img", what }.into()
}

/// Where in the bytes from `start` to `end` of a disk, which should hold data, so much is missing that it can't be
/// told from data that was lost.
fn first_missing(raw: &RawDisk, start: u64, end: u64) -> Result<Option<u64>, ImageError> {
    let mut position = start;
    while position < end {
        let extent = raw.next_extent(position, end)?;
        let all = extent.length == end - start;
        if matches!(extent.content, Content::Zero) && (all || extent.length >= SUSPICIOUS) {
            return Ok(Some(position));
        }
        position += extent.length;
    }
    Ok(None)
}

fn writing(source: io::Error) -> ImageError {
    ImageError::Write { offset: 0, source }
}

/// An error of qemu-img as one of the image: what it was asked, and the names of what it opened, mean nothing to a user.
fn explained(error: CommandError, format: Format) -> DatastoreError {
    if error.is_out_of_space() {
        return writing(io::ErrorKind::StorageFull.into()).into();
    }
    let CommandError::Failed { status, stderr, .. } = &error else { return error.into() };
    let reason = match stderr.trim() {
        "" => format!("it ended with {status}"),
        said => reason_in(said),
    };
    let what = format!(
        "qemu-img can't read ({reason}); repair it, or convert it where it was made, to qcow2 or raw"
    );
    ImageError::Unsupported { format, what }.into()
}

/// The reason in what qemu-img says: the end of its last line, behind the names of files.
fn reason_in(said: &str) -> String {
    let last = said.lines().last().unwrap_or_default();
    let last = last.strip_prefix("qemu-img: ").unwrap_or(last);
    let reason = last.rfind("': ").map_or(last, |at| &last[at + 3..]);
    let internal = ["/proc/", "driver="].iter().any(|word| reason.contains(word));
    runtime::text::one_line(if internal { "it is damaged" } else { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_without_what_qemu_img_was_asked() {
        for (said, reason) in [
            (
                "qemu-img: Could not open 'driver=vhdx,file.filename=/proc/self/fd/5': Could not open '/proc/self/fd/5': Operation not supported\n",
                "Operation not supported",
            ),
            (
                "a warning\nqemu-img: error while reading at byte 7: Invalid argument",
                "error while reading at byte 7: Invalid argument",
            ),
            ("qemu-img: Block node /proc/self/fd/7 is broken", "it is damaged"),
        ] {
            assert_eq!(reason_in(said), reason);
        }
    }
}
