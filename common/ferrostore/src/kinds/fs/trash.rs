//! The trash of a file datastore: what `rm` moves there, and what goes when its time is over or its space is needed.

use super::FileDatastore;
use crate::trash::{LONGEST, Record};
use one_protocol::message::Image;
use runtime::space;
use runtime::staging::reclaim::Reclaim;
use runtime::staging::trash::{self, Trashed};
use runtime::staging::{self, ImageLock, StagingError};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Has what is in the trash go where its space is needed, and deletes what is past its time; bytes of the rest. A large trash
/// is not looked at here: `None`.
pub(super) fn open(directory: &Path) -> Option<u64> {
    let mut reclaim = Reclaim::new(directory);
    space::set_maker(move |need| reclaim.free(need));
    (!trash::is_large(directory)).then(|| expire(directory))
}

/// Deletes what is past its time; bytes of the rest.
fn expire(directory: &Path) -> u64 {
    trash::expire(directory).iter().map(|trashed| trashed.bytes).fold(0, u64::saturating_add)
}

impl FileDatastore {
    /// Bytes of what is in the trash, once what is past its time is gone. The quick actions leave a large trash to those
    /// that call this.
    pub(super) fn trashed(&self) -> u64 {
        *self.trashed.get_or_init(|| expire(&self.directory))
    }

    /// Deletes `parts`, which are the image, or moves them into the trash to `keep` them there.
    pub(super) fn discard(
        &self,
        image: &Image,
        lock: ImageLock,
        parts: &[PathBuf],
        keep: Duration,
    ) -> Result<(), StagingError> {
        if keep.is_zero() || !self.put_into_trash(image, &lock, parts, keep)? {
            staging::discard(lock, parts)?;
        }
        Ok(())
    }

    /// Whether there is a place for the image in the trash: then it is there.
    fn put_into_trash(
        &self,
        image: &Image,
        lock: &ImageLock,
        parts: &[PathBuf],
        keep: Duration,
    ) -> Result<bool, StagingError> {
        let size = Size::of(parts);
        let name = parts.first().map(|image| super::name_of(image).to_owned()).unwrap_or_default();
        let trashed = Trashed { deleted: trash::now(), keep, bytes: size.bytes, image: name };
        if !trashed.has_place() {
            log::warn!(
                "the image {} is deleted at once, because its name is too long for the trash",
                trashed.image.display()
            );
            return Ok(false);
        }
        let attributes = &self.intake.attributes;
        let record = Record::line(
            image,
            &self.intake.description,
            attributes.id,
            &trashed,
            size.snapshots,
            LONGEST,
        );
        let put = || trash::put(lock, parts, &trashed, record.as_bytes());
        let mut done = put();
        // Once more in any case: the disk may have been full for a moment only.
        let mut last = false;
        while let Err(error) = &done
            && error.is_no_space()
        {
            if !space::make_for_entry() && std::mem::replace(&mut last, true) {
                log::warn!(
                    "the image is deleted at once, because there is no space for its entry in the trash: {error}"
                );
                return Ok(false);
            }
            done = put();
        }
        done.map(|()| true)
    }
}

/// What an image with its snapshots comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Size {
    /// Bytes on disk that are free once it is deleted.
    bytes: u64,
    /// Files that are named by a number.
    snapshots: u64,
}

impl Size {
    fn of(parts: &[PathBuf]) -> Self {
        let mut size = Self::default();
        for part in parts {
            let Ok(metadata) = fs::symlink_metadata(part) else { continue };
            size.add(&metadata);
            if !metadata.is_dir() {
                continue;
            }
            for entry in fs::read_dir(part).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.as_encoded_bytes();
                size.snapshots += u64::from(name.iter().all(u8::is_ascii_digit));
                if let Ok(metadata) = entry.metadata() {
                    size.add(&metadata);
                }
            }
        }
        size
    }

    fn add(&mut self, metadata: &Metadata) {
        // A file that has another name elsewhere stays.
        if metadata.is_dir() || metadata.nlink() == 1 {
            self.bytes += metadata.blocks() * 512;
        }
    }
}
