//! Which files may be registered, decided on the file that was opened and not on its name.
//!
//! The file is opened first, without touching its content (`O_PATH`); its real path, as the kernel
//! knows it, is held against the datastore's RESTRICTED_DIRS and SAFE_DIRS; only then is that very
//! file opened for reading. Whatever happens to the name in between changes nothing.

use crate::message::Datastore;
use crate::settings::Settings;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why a path is refused. The text goes on after the name and the value of the attribute.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// Not a path that can mean anything here.
    #[error("is not an absolute path: give the whole path")]
    Relative,
    /// It can't be opened.
    #[error("can't be opened: {source}; {}", remedy(source))]
    Unopenable {
        /// Why.
        source: io::Error,
    },
    /// It lies where files may not be registered from.
    #[error(
        "{}lies in the restricted directory {restricted}: move it to one of SAFE_DIRS ({safe}), or have the administrator add its directory there",
        real_name(real.as_deref())
    )]
    Restricted {
        /// The real path, where the name is a link.
        real: Option<PathBuf>,
        /// The directory.
        restricted: String,
        /// SAFE_DIRS.
        safe: String,
    },
    /// A directory with a restricted one in it.
    #[error(
        "holds the restricted directory {restricted}: give a directory that has none in it, or have the administrator add this one to SAFE_DIRS"
    )]
    Encloses {
        /// The directory in it.
        restricted: String,
    },
    /// A FIFO, a socket, a device.
    #[error("is a {kind}, and only {wanted} can be registered in this datastore")]
    WrongKind {
        /// What it is.
        kind: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Its name is gone.
    #[error("was removed while it was being opened: try again")]
    Removed,
}

fn real_name(real: Option<&Path>) -> String {
    real.map_or(String::new(), |real| format!("is really {} and ", real.display()))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "check the path, as the front-end sees it",
        io::ErrorKind::PermissionDenied => {
            "let the user that runs OpenNebula (oneadmin) read it, and pass its directories"
        }
        _ => "check the path",
    }
}

/// What a path may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
}

/// What passed the gate, but was not opened for reading.
#[derive(Debug)]
pub struct Located {
    handle: File,
    /// Where it really lies.
    pub real_path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What the system says of it.
    pub metadata: std::fs::Metadata,
}

/// A file that passed the gate.
#[derive(Debug)]
pub struct Admitted {
    /// The file, open for reading.
    pub file: File,
    /// Where it really lies.
    pub real_path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// The rules of one datastore on this machine.
#[derive(Debug)]
pub struct PathRules {
    restricted: Vec<PathBuf>,
    safe: Vec<PathBuf>,
    /// Safe directories whose links are as safe as what lies in them.
    safe_for_links: Vec<PathBuf>,
}

/// The directory of device files.
const DEVICES: &str = "/dev";

impl PathRules {
    /// The rules of `datastore`: its own lists, and OpenNebula's directories.
    #[must_use]
    pub fn of(datastore: &Datastore, settings: &Settings) -> Self {
        let mut restricted = datastore.restricted_dirs.clone();
        restricted.extend(settings.always_restricted());
        Self { restricted, safe: datastore.safe_dirs.clone(), safe_for_links: Vec::new() }
    }

    /// The rules of a `datastore` of devices: those of files, but for two things.
    ///
    /// `RESTRICTED_DIRS=/`, which oned sets where the administrator sets nothing, would leave no device
    /// at all; it counts only beside a safe directory in `/dev`. And a link in such a directory is as safe as a device
    /// in it, because the lasting names of devices (`/dev/disk/by-id`) are links.
    #[must_use]
    pub fn for_devices(datastore: &Datastore, settings: &Settings) -> Self {
        let mut rules = Self::of(datastore, settings);
        rules.safe_for_links =
            rules.safe.iter().filter(|directory| directory.starts_with(DEVICES)).cloned().collect();
        if rules.safe_for_links.is_empty() {
            rules.restricted.retain(|directory| directory != Path::new("/"));
        }
        rules
    }

    /// Opens `path` if it is one of `kinds` and lies where files may be registered from.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn admit(&self, path: &Path, kinds: &[Kind]) -> Result<Admitted, PathError> {
        let Located { handle, real_path, kind, .. } = self.locate(path, kinds)?;
        let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(by_descriptor(&handle))
            .map_err(|source| PathError::Unopenable { source })?;
        Ok(Admitted { file, real_path, kind })
    }

    /// Finds `path` as [`Self::admit`] does, without opening it for reading.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn locate(&self, path: &Path, kinds: &[Kind]) -> Result<Located, PathError> {
        if !path.is_absolute() {
            return Err(PathError::Relative);
        }
        let unopenable = |source| PathError::Unopenable { source };
        let handle = match open_handle(path) {
            Ok(handle) => handle,
            Err(error) => {
                // Whether a file exists in a restricted directory is nobody's business.
                self.check(path, &nearest(path))?;
                return Err(unopenable(error));
            }
        };
        let metadata = handle.metadata().map_err(unopenable)?;
        let real_path = std::fs::read_link(by_descriptor(&handle)).map_err(unopenable)?;
        if metadata.nlink() == 0 {
            return Err(PathError::Removed);
        }
        self.check(path, &real_path)?;
        let kind = kind_of(&metadata, kinds)?;
        if kind == Kind::Directory {
            self.check_inside(&real_path)?;
        }
        Ok(Located { handle, real_path, kind, metadata })
    }

    fn check(&self, path: &Path, real: &Path) -> Result<(), PathError> {
        let within = |directory: &PathBuf| {
            real.starts_with(directory)
                || directory.canonicalize().is_ok_and(|directory| real.starts_with(directory))
        };
        let is_safe_link = |directory: &PathBuf| nearest(path).starts_with(directory);
        if self.safe.iter().any(within) || self.safe_for_links.iter().any(is_safe_link) {
            return Ok(());
        }
        let Some(directory) = self.restricted.iter().find(|directory| within(directory)) else {
            return Ok(());
        };
        let list: Vec<_> = self.safe.iter().map(|path| path.display().to_string()).collect();
        Err(PathError::Restricted {
            real: (real != path).then(|| real.to_owned()),
            restricted: directory.display().to_string(),
            safe: if list.is_empty() { "none are set".to_owned() } else { list.join(" ") },
        })
    }

    /// Checks that no restricted directory lies in the directory `real`.
    fn check_inside(&self, real: &Path) -> Result<(), PathError> {
        let inside = |directory: &&PathBuf| {
            directory.starts_with(real)
                || directory.canonicalize().is_ok_and(|directory| directory.starts_with(real))
        };
        let is_safe = |directory: &PathBuf| {
            directory.canonicalize().is_ok_and(|directory| real.starts_with(directory))
        };
        match self.restricted.iter().find(inside) {
            Some(directory) if !self.safe.iter().any(is_safe) => {
                Err(PathError::Encloses { restricted: directory.display().to_string() })
            }
            _ => Ok(()),
        }
    }
}

/// The name by which an open file can be opened once more, whatever its path names by now.
fn by_descriptor(handle: &File) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// The real path of what exists of `path`, and the rest as it is.
fn nearest(path: &Path) -> PathBuf {
    for ancestor in path.ancestors().skip(1) {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// Opens without reading anything, whatever it is: a FIFO doesn't block, a device isn't touched.
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

fn kind_of(metadata: &std::fs::Metadata, kinds: &[Kind]) -> Result<Kind, PathError> {
    let file_type = metadata.file_type();
    let (kind, name) = if file_type.is_file() {
        (Some(Kind::File), "regular file")
    } else if file_type.is_dir() {
        (Some(Kind::Directory), "directory")
    } else if file_type.is_block_device() {
        (Some(Kind::BlockDevice), "block device")
    } else if file_type.is_char_device() {
        (None, "character device")
    } else if file_type.is_fifo() {
        (None, "FIFO")
    } else {
        (None, "socket")
    };
    match kind {
        Some(kind) if kinds.contains(&kind) => Ok(kind),
        _ => Err(PathError::WrongKind {
            kind: name,
            wanted: match kinds.first() {
                Some(Kind::BlockDevice) => "a block device",
                Some(Kind::Directory) => "a directory",
                _ => "a regular file",
            },
        }),
    }
}

/// Opens the regular file `path`, which must really lie in the directory `datastore`.
///
/// # Errors
/// Where it is anything else, or can't be opened.
pub fn open_inside(path: &Path, datastore: &Path) -> io::Result<File> {
    open_inside_with(path, datastore, OpenOptions::new().read(true))
}

/// As [`open_inside`], for writing as well.
///
/// # Errors
/// As [`open_inside`].
pub fn open_inside_to_write(path: &Path, datastore: &Path) -> io::Result<File> {
    open_inside_with(path, datastore, OpenOptions::new().read(true).write(true))
}

fn open_inside_with(path: &Path, datastore: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // A FIFO must not make us wait, nor a link lead us out.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW | nix::libc::O_NOCTTY;
    let real = path.canonicalize()?;
    let refuse = |why: &str| Err(io::Error::other(why.to_owned()));
    if !real.starts_with(datastore.canonicalize()?) {
        return refuse("it is a link that leads out of its datastore");
    }
    let metadata = std::fs::symlink_metadata(&real)?;
    if !metadata.is_file() {
        return refuse("it is no regular file");
    }
    let file = options.custom_flags(flags).open(&real)?;
    if file.metadata()?.is_file() { Ok(file) } else { refuse("it is no regular file") }
}
