//! Files as they were found: opened without touching their content, and where they really lie.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::collections::HashSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file that is held, so that what is decided about it holds for what is read later: no name is looked
/// up a second time.
#[derive(Debug)]
pub struct Found {
    handle: File,
    metadata: Metadata,
    real_path: PathBuf,
}

/// Finds the file `path`, whatever it is: a FIFO doesn't block, a device isn't touched. Links are followed,
/// but not those of `/proc` that lead to open files.
///
/// # Errors
/// Where it isn't there, may not be reached, or lies nowhere any more.
pub fn find(path: &Path) -> io::Result<Found> {
    let handle = open_handle(path)?;
    let metadata = handle.metadata()?;
    let real_path = std::fs::read_link(by_descriptor(&handle))?;
    // A pipe has no path, and a directory that was unmounted meanwhile has none that leads to it.
    if metadata.nlink() == 0 || !real_path.is_absolute() {
        return Err(io::Error::other("it lies in no directory any more"));
    }
    Ok(Found { handle, metadata, real_path })
}

impl Found {
    /// What the kernel knows of it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Where it really lies.
    #[must_use]
    pub fn real_path(&self) -> &Path {
        &self.real_path
    }

    /// As [`Self::real_path`].
    #[must_use]
    pub fn into_real_path(self) -> PathBuf {
        self.real_path
    }

    /// What holds it: good for asking about it, not for reading.
    #[must_use]
    pub fn handle(&self) -> &File {
        &self.handle
    }

    /// Opens this very file for reading.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true))
    }

    fn open_with(&self, options: &mut OpenOptions) -> io::Result<File> {
        let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK;
        options.custom_flags(flags).open(by_descriptor(&self.handle))
    }
}

fn by_descriptor(handle: &File) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

fn open_handle(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(AT_FDCWD, path, how) {
        Ok(handle) => Ok(handle.into()),
        // Kernels before 5.6: the decision on the opened file holds all the same.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            Ok(nix::fcntl::open(path, flags, Mode::empty())?.into())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Bytes that `directory` takes on disk, with all that is in it, as `du(1)` counts: none of its links is
/// followed, and whatever takes its place meanwhile is not looked at.
///
/// # Errors
/// Where a directory in it can't be read, or counting takes too long.
pub fn disk_usage(directory: &File) -> io::Result<u64> {
    /// A caller waits for the answer.
    const TIME: Duration = Duration::from_secs(60);
    let until = Instant::now() + TIME;
    let mut linked = HashSet::new();
    let mut waiting = vec![PathBuf::new()];
    let mut blocks = directory.metadata()?.blocks();
    while let Some(path) = waiting.pop() {
        let inner = open_beneath(directory, &path)?;
        for entry in std::fs::read_dir(by_descriptor(&inner))? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Others may be at work in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.nlink() == 1
                || metadata.is_dir()
                || linked.insert((metadata.dev(), metadata.ino()))
            {
                blocks += metadata.blocks();
            }
            if metadata.is_dir() {
                waiting.push(path.join(entry.file_name()));
            }
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(blocks * 512)
}

/// Opens the directory `path` of `directory` without following a link.
fn open_beneath(directory: &File, path: &Path) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match openat2(directory, path, OpenHow::new().flags(flags).resolve(resolve)) {
        Ok(inner) => Ok(inner.into()),
        Err(Errno::ENOSYS | Errno::EPERM) => {
            Ok(nix::fcntl::openat(directory, path, flags, Mode::empty())?.into())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Where the directory `path` really lies.
///
/// # Errors
/// As [`find`].
pub fn real_directory(path: &Path) -> io::Result<PathBuf> {
    find(path).map(Found::into_real_path)
}

/// Opens the regular file `path`, which must really lie in the directory `datastore`.
///
/// # Errors
/// Where it is anything else, or can't be opened.
pub fn open_inside(path: &Path, datastore: &Path) -> io::Result<File> {
    find_inside(path, datastore)?.open()
}

/// As [`open_inside`], for writing as well.
///
/// # Errors
/// As [`open_inside`].
pub fn open_inside_to_write(path: &Path, datastore: &Path) -> io::Result<File> {
    find_inside(path, datastore)?.open_with(OpenOptions::new().read(true).write(true))
}

fn find_inside(path: &Path, datastore: &Path) -> io::Result<Found> {
    let found = find(path)?;
    if !found.real_path.starts_with(real_directory(datastore)?) {
        return Err(io::Error::other("it is a link that leads out of its datastore"));
    }
    if !found.metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(found)
}
