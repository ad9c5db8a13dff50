//! The trash of a datastore: images that were deleted and can still be brought back.
//!
//! Each is a directory `.ferrostore-trash/<deleted>.<keep>.<bytes>.<image>`: the transaction that has moved the image's
//! files into it, under the numbered names that those have there, with a record of what the image was. Everything that has to be known
//! of many at once stands in the name.
//!
//! Every step is one rename of such a directory. Into the trash it comes out of the work directory, as the commit of
//! the transaction; it is restored as a transaction to be rolled back, and what is to be deleted gets another name first.

use super::error::{StagingError, at};
use super::image_lock::ImageLock;
use super::recovery::{UNDO, entries, name_of, roll_back};
use super::transaction::Transaction;
use super::{refresh, sync_directory, sync_trash};
use crate::{process, work_directory};
use nix::fcntl::OFlag;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The name of the trash in a datastore's directory.
pub const NAME: &str = ".ferrostore-trash";

/// What the name of an entry begins with that is being deleted.
const REMOVING: &[u8] = b"removing.";

/// The record of an entry.
const RECORD: &str = "record";

/// A record that is longer is none, bytes.
const LONGEST_RECORD: u64 = 64 << 10;

/// The longest name that a file can have, bytes.
const LONGEST_NAME: usize = 255;

/// Times that are longer no call has written: they can be added, and told as dates.
pub const LATEST: u64 = 1 << 50;

/// Nor are images larger, bytes.
const MOST_BYTES: u64 = 1 << 60;

/// A directory that is larger holds a thousand entries or more, bytes: reading it takes milliseconds.
const LARGE: u64 = 128 << 10;

/// One call deletes what is past its time for no longer than this.
const EXPIRY_TIME: Duration = Duration::from_millis(250);

/// An image in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// When it was deleted, since 1970, in whole milliseconds.
    pub deleted: Duration,
    /// How long it is kept, in whole seconds.
    pub keep: Duration,
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// The name of its file.
    pub image: OsString,
}

impl Trashed {
    /// The name of its entry, by which it is told from all others.
    #[must_use]
    pub fn key(&self) -> OsString {
        let (deleted, keep) = (self.deleted.as_millis(), self.keep.as_secs());
        let mut key = OsString::from(format!("{deleted}.{keep}.{}.", self.bytes));
        key.push(&self.image);
        key
    }

    fn parse(key: &OsStr) -> Option<Self> {
        let mut parts = key.as_bytes().splitn(4, |&byte| byte == b'.');
        // Only as they are written here, since the name is made of them again.
        let is_plain = |part: &&[u8]| *part == b"0" || matches!(part.first(), Some(b'1'..=b'9'));
        let mut number = || -> Option<u64> {
            std::str::from_utf8(parts.next().filter(is_plain)?).ok()?.parse().ok()
        };
        let (deleted, keep, bytes) = (number()?, number()?, number()?);
        if deleted > LATEST || keep > LATEST || bytes > MOST_BYTES {
            return None;
        }
        let image = OsStr::from_bytes(parts.next().filter(|name| !name.is_empty())?).to_owned();
        let (deleted, keep) = (Duration::from_millis(deleted), Duration::from_secs(keep));
        Some(Self { deleted, keep, bytes, image })
    }

    /// When it is past its time, since 1970.
    #[must_use]
    pub fn expires(&self) -> Duration {
        self.deleted.saturating_add(self.keep)
    }

    /// Whether an image of such a name can have an entry.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.key().len() <= LONGEST_NAME
    }

    fn path(&self, datastore: &Path) -> PathBuf {
        of(datastore).join(self.key())
    }
}

/// The time since 1970, in whole milliseconds.
#[must_use]
pub fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(now.as_millis() as u64)
}

/// The trash of the datastore `datastore`.
#[must_use]
pub fn of(datastore: &Path) -> PathBuf {
    datastore.join(NAME)
}

/// Whether so much is in the trash that it takes a while to read what.
#[must_use]
pub fn is_large(datastore: &Path) -> bool {
    fs::symlink_metadata(of(datastore)).is_ok_and(|metadata| metadata.len() > LARGE)
}

/// What lies in a trash.
#[derive(Debug, Default)]
pub struct Contents {
    /// The images, oldest first.
    pub images: Vec<Trashed>,
    /// Names of entries that are being deleted, or were when their driver was killed.
    removing: Vec<OsString>,
    /// Names of what is none of these.
    pub strays: Vec<OsString>,
}

/// What lies in the trash of `datastore`; nothing where there is none.
///
/// # Errors
/// Where it can't be read.
pub fn list(datastore: &Path) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let trash = of(datastore);
    refresh(datastore);
    let opened = fs::symlink_metadata(&trash).and_then(|metadata| {
        if metadata.is_dir() {
            fs::read_dir(&trash)
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    });
    let directory = match opened {
        Err(error) if work_directory::is_gone(&error) => return Ok(contents),
        opened => opened?,
    };
    for entry in directory {
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_dir() {
            contents.strays.push(name);
            continue;
        }
        match Trashed::parse(&name) {
            Some(trashed) => contents.images.push(trashed),
            None if name.as_bytes().starts_with(REMOVING) => contents.removing.push(name),
            None => contents.strays.push(name),
        }
    }
    contents.images.sort_by(|a, b| (a.deleted, &a.image).cmp(&(b.deleted, &b.image)));
    Ok(contents)
}

/// The record of an image in the trash.
///
/// # Errors
/// Where it can't be read.
pub fn record(datastore: &Path, trashed: &Trashed) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Nothing but a file: a pipe would be waited for.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(trashed.path(datastore).join(RECORD))?;
    if file.take(LONGEST_RECORD + 1).read_to_end(&mut bytes)? as u64 > LONGEST_RECORD {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The files of an image in the trash: their names in the datastore, and where they are.
///
/// # Errors
/// Where they can't be read.
pub fn files(datastore: &Path, trashed: &Trashed) -> io::Result<Vec<(OsString, PathBuf)>> {
    let path = trashed.path(datastore);
    let mut files = Vec::new();
    for (number, kind, name) in entries(&path)?.into_iter().rev() {
        let mut entry = OsString::from(format!("{number}{kind}."));
        entry.push(&name);
        files.push((name, path.join(entry)));
    }
    Ok(files)
}

fn make(datastore: &Path) -> io::Result<()> {
    let trash = of(datastore);
    match fs::DirBuilder::new().mode(0o770).create(&trash) {
        // Not through a link to anywhere else.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(&trash)?.is_dir() {
                Ok(())
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        }
        made => made.and_then(|()| work_directory::chown_to_datastore_owner(&trash, datastore)),
    }
}

/// Removes the trash if it is empty.
pub(super) fn leave(datastore: &Path) {
    let _ = fs::remove_dir(of(datastore));
}

/// Moves `paths`, which are the image of `lock` or belong to it, into the trash as `trashed`, with this record: all of
/// them or none. Missing ones are left out.
///
/// # Errors
/// Where that can't be; then all are there as before.
pub fn put(
    lock: &ImageLock,
    paths: &[PathBuf],
    trashed: &Trashed,
    record: &[u8],
) -> Result<(), StagingError> {
    let datastore = lock.datastore();
    let trash = of(datastore);
    let mut any = false;
    let moved = make(datastore).map_err(at("written into", &trash)).and_then(|()| {
        let transaction = Transaction::with_rollback(lock)?;
        let note = transaction.note(RECORD, record)?;
        for path in paths {
            any |= transaction.take(path)?;
        }
        if !any {
            // On NFS another host may have been quicker than could be seen.
            return Ok(());
        }
        note.sync_all().map_err(at("written to disk", &trash))?;
        transaction.commit_to(&trashed.path(datastore), || make(datastore))
    });
    if moved.is_err() || !any {
        leave(datastore);
    }
    moved
}

/// Why an image can't be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not in the trash any more.
    #[error("is not in the trash any more")]
    Gone,
    /// It has no files.
    #[error("has no file in the trash any more; purge it")]
    Empty,
    /// Another file has its name.
    #[error("can't be restored: {} is there already; move that elsewhere first", .0.display())]
    Taken(PathBuf),
    /// A step failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// Puts the files of an image back under their names, which are those of `lock`.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(lock: &ImageLock, trashed: &Trashed) -> Result<(), RestoreError> {
    let (datastore, image) = (lock.datastore(), lock.image());
    let trash = of(datastore);
    let files = match files(datastore, trashed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(RestoreError::Gone),
        files => files.map_err(at("read", &trash))?,
    };
    if files.is_empty() {
        return Err(RestoreError::Empty);
    }
    let taken = files.into_iter().map(|(name, _)| datastore.join(name));
    if let Some(path) = taken.into_iter().find(|path| fs::symlink_metadata(path).is_ok()) {
        return Err(RestoreError::Taken(path));
    }
    process::mark_committed();
    let entry = trashed.path(datastore);
    let move_out = || {
        work_directory::enter(datastore, |area| {
            let undo = area.join(name_of(UNDO, image));
            // `enter` takes what is missing for its own directory.
            if !entry.exists() {
                return Ok(None);
            }
            fs::rename(&entry, &undo).map(|()| Some(undo))
        })
    };
    // From here on it is what a killed driver had not finished, and is rolled back.
    let moved = move_out().map_err(at("taken out of the trash", &entry))?;
    let undo = moved.ok_or(RestoreError::Gone)?;
    let area = work_directory::of(datastore);
    if let Err(error) = sync_directory(&area).and_then(|()| sync_trash(&trash)) {
        if fs::rename(&undo, &entry).is_ok() {
            work_directory::leave(datastore);
        }
        return Err(at("written to disk", &area)(error).into());
    }
    // Once more where it fails, since what is half done is best completed.
    roll_back(&undo, datastore, image)
        .or_else(|_| roll_back(&undo, datastore, image))
        .map_err(at("put back; the next call on the datastore tries again", &undo))?;
    if let Err(error) = fs::remove_dir_all(&undo) {
        log::warn!("file {} is left for the next call to remove: {error}", undo.display());
    }
    leave(datastore);
    work_directory::leave(datastore);
    Ok(())
}

/// Deletes an image in the trash; `false` where it is not there any more.
///
/// # Errors
/// Where it can't be deleted; then all of it is there.
pub fn purge(datastore: &Path, trashed: &Trashed) -> Result<bool, StagingError> {
    let path = trashed.path(datastore);
    let mut name = OsStr::from_bytes(REMOVING).to_owned();
    name.push(trashed.deleted.as_millis().to_string());
    name.push(".");
    name.push(&trashed.image);
    let removing = path.with_file_name(name);
    match fs::rename(&path, &removing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        moved => moved.map_err(at("removed", &path))?,
    }
    remove(&removing);
    Ok(true)
}

/// Has it on disk that images were deleted, and takes away a trash that is empty.
pub fn finish_purge(datastore: &Path) {
    let trash = of(datastore);
    // Once more: what the system can't tell the disk at all, may be in the trash again after a power cut.
    if let Err(error) = sync_trash(&trash).or_else(|_| sync_trash(&trash)) {
        log::warn!("the trash {} can't be written to disk: {error}", trash.display());
    }
    leave(datastore);
}

fn remove(removing: &Path) {
    match fs::remove_dir_all(removing) {
        // Another driver does the same.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("file {} is left for a later call to remove: {error}", removing.display());
        }
        _ => {}
    }
}

/// Deletes what is past its time, oldest first, for a moment at most: the rest is left to later calls. What stays.
#[must_use]
pub fn expire(datastore: &Path) -> Vec<Trashed> {
    let contents = match list(datastore) {
        Ok(contents) => contents,
        Err(error) => {
            log::warn!("the trash {} can't be read: {error}", of(datastore).display());
            return Vec::new();
        }
    };
    let trash = of(datastore);
    for name in &contents.removing {
        remove(&trash.join(name));
    }
    let (start, now) = (Instant::now(), now());
    let mut staying = contents.images;
    let mut removed = 0_u64;
    staying.retain(|trashed| {
        let expired = trashed.expires() <= now && start.elapsed() < EXPIRY_TIME;
        let gone = expired && purge(datastore, trashed).is_ok();
        removed += u64::from(gone);
        !gone
    });
    if removed > 0 {
        log::info!("removed {removed} images from the trash, whose time is over");
    }
    if staying.is_empty() {
        leave(datastore);
    }
    staying
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn trashed(deleted: u64, image: &str) -> Trashed {
        let (deleted, keep) = (Duration::from_millis(deleted), Duration::from_secs(60));
        Trashed { deleted, keep, bytes: 4096, image: image.into() }
    }

    #[test]
    fn the_name_of_an_entry_tells_all_of_it() {
        for image in ["0123456789abcdef0123456789abcdef", "a.b.c", "1.2.3.4", "-"] {
            let entry = trashed(1_795_439_728_123, image);
            assert_eq!(Trashed::parse(&entry.key()), Some(entry), "{image}");
        }
        for name in [
            "",
            "removing.1.a",
            "1.2.3.",
            "1.2.3",
            "01.2.3.a",
            "+1.2.3.a",
            "1.2.x.a",
            "a",
            "9223372036854775807.1.1.a",
            "1.9223372036854775807.1.a",
            "1.1.9223372036854775807.a",
        ] {
            assert_eq!(Trashed::parse(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_long_name_has_no_place() {
        assert!(trashed(1_795_439_728_123, &"x".repeat(200)).has_place());
        assert!(!trashed(1_795_439_728_123, &"x".repeat(250)).has_place());
    }
}
