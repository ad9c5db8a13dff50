//! Which files may be registered, decided on the file that was opened and not on its name.
//!
//! The file is opened first, without touching its content (`O_PATH`); its real path, as the kernel
//! knows it, is held against the datastore's RESTRICTED_DIRS and SAFE_DIRS; only then is that very
//! file opened for reading. Whatever happens to the name in between changes nothing.
//!
//! A hard link is a name like any other: it is judged by where it lies. The kernel lets no user make one to
//! a file that isn't theirs (`fs.protected_hardlinks`, on by default); where that is off, files with more
//! than one name are refused.

use one_protocol::message::Datastore;
use one_protocol::settings::Settings;
use runtime::found::{Found, find};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

pub use runtime::found::{open_inside, open_inside_to_write, real_directory};

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
    /// It may be another user's file.
    #[error(
        "has {0} names (hard links), of which others may lie in restricted directories: have the administrator set fs.protected_hardlinks=1, or copy the file"
    )]
    HardLinks(u64),
    /// It is no file on a disk.
    #[error("is on a pseudo file system ({0}), not a disk image: give a file on a disk")]
    PseudoFile(&'static str),
}

impl PathError {
    /// Whether there is nothing of that name on this machine, where something of that name might be a device on
    /// another one.
    #[must_use]
    pub fn is_missing_device(&self, path: &Path) -> bool {
        let Self::Unopenable { source } = self else { return false };
        let plain = |path: &Path| {
            path.starts_with(DEVICES) && !path.components().any(|part| part == Component::ParentDir)
        };
        source.kind() == io::ErrorKind::NotFound && plain(path) && plain(&nearest(path))
    }
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

/// What passed the path policy, but was not opened for reading.
#[derive(Debug)]
pub struct Located {
    found: Found,
    /// What it is.
    pub kind: Kind,
}

impl Located {
    /// What the system says of it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.found.metadata()
    }
}

/// A file that passed the path policy.
#[derive(Debug)]
pub struct Admitted {
    /// The file, open for reading.
    pub file: File,
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
        let Located { found, kind } = self.locate(path, kinds)?;
        let file = found.open().map_err(|source| PathError::Unopenable { source })?;
        Ok(Admitted { file, kind })
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
        let found = match find(path) {
            Ok(found) => found,
            Err(error) => {
                // Whether a file exists in a restricted directory must not be told.
                self.check(path, &nearest(path))?;
                return Err(unopenable(error));
            }
        };
        self.check(path, found.real_path())?;
        let kind = kind_of(found.metadata(), kinds)?;
        match kind {
            Kind::File => check_links(found.metadata(), HARD_LINKS)?,
            Kind::Directory => self.check_inside(found.real_path())?,
            Kind::BlockDevice => return Ok(Located { found, kind }),
        }
        check_file_system(&found)?;
        Ok(Located { found, kind })
    }

    fn check(&self, path: &Path, real: &Path) -> Result<(), PathError> {
        // A relative one would mean something else in every working directory.
        let within = |directory: &PathBuf| {
            directory.is_absolute()
                && (real.starts_with(directory)
                    || directory.canonicalize().is_ok_and(|directory| real.starts_with(directory)))
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

/// The real path of what exists of `path`, and the rest as it is.
fn nearest(path: &Path) -> PathBuf {
    for ancestor in path.ancestors().skip(1) {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// Says 1 where the kernel lets no user make a hard link to a file of another user.
const HARD_LINKS: &str = "/proc/sys/fs/protected_hardlinks";

fn check_links(metadata: &Metadata, protection: &str) -> Result<(), PathError> {
    if metadata.nlink() < 2 || std::fs::read(protection).is_ok_and(|value| value != b"0\n") {
        return Ok(());
    }
    Err(PathError::HardLinks(metadata.nlink()))
}

/// Files that tell of processes and of the kernel have no content of their own.
fn check_file_system(found: &Found) -> Result<(), PathError> {
    use nix::sys::statfs::{
        BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, PROC_SUPER_MAGIC,
        SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
    };
    let file_system = fstatfs(found.handle())
        .map_err(|errno| PathError::Unopenable { source: errno.into() })?
        .filesystem_type();
    let name = match file_system {
        PROC_SUPER_MAGIC => "proc",
        SYSFS_MAGIC => "sysfs",
        CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC => "cgroup",
        BPF_FS_MAGIC | DEBUGFS_MAGIC | SECURITYFS_MAGIC | TRACEFS_MAGIC => "debugfs and the like",
        _ => return Ok(()),
    };
    Err(PathError::PseudoFile(name))
}

fn kind_of(metadata: &Metadata, kinds: &[Kind]) -> Result<Kind, PathError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_with_several_names_are_refused_where_anybody_can_make_such_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, text) in [("on", "1\n"), ("off", "0\n"), ("image", "x")] {
            std::fs::write(path(name), text).unwrap();
        }
        let check = |protection: &str| {
            let metadata = path("image").metadata().unwrap();
            check_links(&metadata, path(protection).to_str().unwrap())
        };
        assert!(check("off").is_ok() && check("missing").is_ok());
        std::fs::hard_link(path("image"), path("second")).unwrap();
        assert!(check("on").is_ok());
        assert!(check("off").is_err() && check("missing").is_err());
    }
}
