//! The files of a persistent image's snapshots, as OpenNebula's transfer drivers lay them out.
//!
//! For an image `S` they lie in the directory `S.snap`, one file for each number. In a *chain of
//! overlays* file n+1 backs on file n (after reverts the chain is a tree), the file with the highest number
//! is the active disk, and file 0 is `S` itself, as a link one way or the other. As *copies*, `S` is the
//! active disk and each file a full copy. Which of the two it is can be read off the directory.

mod dependents;

use crate::policy::{open_inside, open_inside_to_write};
use disk_image::ImageError;
use disk_image::admission::{ImageRefusal, open_chain};
use disk_image::qcow2::{BackingFile, Chain, Header, rename_backing_file};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// A `.current` file holds a path; one that is longer than any path is none.
const LONGEST_PATH: u64 = 4096;

/// What is wrong with an image's snapshots.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no such snapshot.
    #[error(
        "IMAGE/TARGET_SNAPSHOT \"{id}\" does not exist: {directory} holds {present}; nothing was changed"
    )]
    Missing {
        /// The number.
        id: u32,
        /// `S.snap`.
        directory: PathBuf,
        /// What there is instead.
        present: String,
    },
    /// The number is that of the disk itself.
    #[error(
        "IMAGE/TARGET_SNAPSHOT \"{id}\" is the live disk ({file}) and no snapshot; nothing was changed"
    )]
    Live {
        /// The number.
        id: u32,
        /// The file.
        file: PathBuf,
    },
    /// Another file backs on it.
    #[error(
        "IMAGE/TARGET_SNAPSHOT \"{id}\" can't be {change}: {dependent} still backs on {file}; delete what depends on it first"
    )]
    InUse {
        /// The number.
        id: u32,
        /// What was to be done.
        change: &'static str,
        /// The file that depends on it.
        dependent: PathBuf,
        /// The file.
        file: PathBuf,
    },
    /// A file may back on it: the name that it has for its backing file can't be followed.
    #[error(
        "IMAGE/TARGET_SNAPSHOT \"{id}\" can't be {change}: {dependent} has the backing file {name}, which may be {file}, though nothing of that name is found here; correct the name with `qemu-img rebase -u`, or delete what depends on it first"
    )]
    MayBeInUse {
        /// The number.
        id: u32,
        /// What was to be done.
        change: &'static str,
        /// The file that may depend on it.
        dependent: PathBuf,
        /// Its name for its backing file.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A file that names another one names something outside the snapshots.
    #[error(
        "{file} points to {target}, which is no file of this image's snapshots; correct or remove it by hand"
    )]
    InvalidPointer {
        /// The file with the name in it.
        file: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// A file can't be read.
    #[error("{path} can't be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image of the chain is refused.
    #[error("{path} {source}")]
    Refused {
        /// The image.
        path: PathBuf,
        /// Why.
        source: ImageRefusal,
    },
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Unreadable { path: path.to_owned(), source }
}

/// How the files of `S.snap` belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Each file backs on another one; the highest number is the active disk.
    Chain,
    /// Each file stands alone; `S` is the active disk.
    Copies,
}

/// The snapshots of one image.
#[derive(Debug)]
pub struct Snapshots {
    image: PathBuf,
    datastore: PathBuf,
    directory: PathBuf,
    layout: Layout,
    /// Files by number.
    files: BTreeMap<u32, PathBuf>,
    /// Files that `.current` files name, by number.
    current: BTreeMap<u32, PathBuf>,
    /// `.current` files that name nothing usable, by number.
    outside: BTreeMap<u32, PathBuf>,
}

/// `S.snap` of the image `S`.
#[must_use]
pub fn directory_of(image: &Path) -> PathBuf {
    with_suffix(image, ".snap")
}

/// `S` with something behind its name.
#[must_use]
pub fn with_suffix(image: &Path, suffix: &str) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn number(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?;
    (name == "0" || (!name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit())))
        .then(|| name.parse().ok())?
}

impl Snapshots {
    /// The snapshots of the image at `image`, of format `format` as oned records it, in the directory
    /// `datastore`; `None` where it has no `S.snap` with files in it.
    ///
    /// # Errors
    /// Where `S.snap` can't be read or leads out of itself.
    pub fn read(
        image: &Path,
        format: &str,
        datastore: &Path,
    ) -> Result<Option<Self>, SnapshotError> {
        let directory = directory_of(image);
        let entries = match fs::symlink_metadata(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&directory)(error)),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(unreadable(&directory)(io::Error::other("it is not a directory")));
            }
            Ok(_) => fs::read_dir(&directory).map_err(unreadable(&directory))?,
        };
        let mut files = BTreeMap::new();
        let mut pointers = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable(&directory))?.file_name();
            if let Some(id) = number(&name) {
                files.insert(id, directory.join(name));
            } else if let Some(id) = name.as_bytes().strip_suffix(b".current")
                && let Some(id) = number(OsStr::from_bytes(id))
            {
                pointers.push((id, directory.join(name)));
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        let mut snapshots = Self {
            image: image.to_owned(),
            datastore: datastore.to_owned(),
            layout: Layout::Copies,
            directory,
            files,
            current: BTreeMap::new(),
            outside: BTreeMap::new(),
        };
        for (id, pointer) in pointers {
            match snapshots.follow(&pointer) {
                Ok(file) => drop(snapshots.current.insert(id, file)),
                // An error only where this snapshot is wanted.
                Err(_) => drop(snapshots.outside.insert(id, pointer)),
            }
        }
        snapshots.layout = snapshots.recognise(format)?;
        Ok(Some(snapshots))
    }

    /// The file that a `.current` file names: one in `S.snap`, or `S`.
    fn follow(&self, pointer: &Path) -> Result<PathBuf, SnapshotError> {
        let metadata = fs::symlink_metadata(pointer).map_err(unreadable(pointer))?;
        let text = if metadata.is_symlink() {
            fs::read_link(pointer).map_err(unreadable(pointer))?.into_os_string().into_vec()
        } else if metadata.is_file() && metadata.len() <= LONGEST_PATH {
            fs::read(pointer).map_err(unreadable(pointer))?
        } else {
            return Err(unreadable(pointer)(io::Error::other("it contains no path")));
        };
        let named = self.directory.join(OsString::from_vec(text.trim_ascii().to_vec()));
        let parent = named.parent().unwrap_or(Path::new("/"));
        // It may still be the path where the snapshots were when it was written: beside the disk of a
        // virtual machine in the system datastore.
        let own = same(parent, &self.directory) || is_snapshots_of_a_disk(parent);
        let entry = named.file_name().filter(|name| own && number(name).is_some());
        if let Some(entry) = entry.map(|name| self.directory.join(name))
            && entry.exists()
        {
            return Ok(entry);
        }
        match (named.canonicalize(), self.image.canonicalize()) {
            (Ok(named), Ok(image)) if named == image => Ok(image),
            _ => Err(SnapshotError::InvalidPointer { file: pointer.to_owned(), target: named }),
        }
    }

    fn recognise(&self, format: &str) -> Result<Layout, SnapshotError> {
        let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        let name = self.image.file_name().unwrap_or_default();
        let own_link = with_suffix(&self.directory.join(name), ".snap");
        if is_link(&self.image)
            || is_link(&own_link)
            || self.files.get(&0).is_some_and(|base| is_link(base))
        {
            return Ok(Layout::Chain);
        }
        // What stands in a raw image was written by its guest and says nothing.
        if format == "raw" {
            return Ok(Layout::Copies);
        }
        for file in self.files.values() {
            if self.backing_name(file)?.is_some() {
                return Ok(Layout::Chain);
            }
        }
        Ok(Layout::Copies)
    }

    /// Chain or copies.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// `S.snap`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The numbered files in `S.snap`.
    pub fn files(&self) -> impl Iterator<Item = (u32, &Path)> {
        self.files.iter().map(|(&id, file)| (id, file.as_path()))
    }

    /// What is wrong with `.current` files that name nothing usable.
    pub fn invalid_pointers(&self) -> impl Iterator<Item = SnapshotError> {
        self.outside.values().filter_map(|pointer| self.follow(pointer).err())
    }

    /// The file that the virtual machine writes to.
    #[must_use]
    pub fn active_file(&self) -> &Path {
        match (self.layout, self.files.last_key_value()) {
            (Layout::Chain, Some((_, file))) => file,
            _ => &self.image,
        }
    }

    /// The file that holds snapshot `id`.
    ///
    /// # Errors
    /// Where there is none, or `id` is the live disk.
    pub fn file_of(&self, id: u32) -> Result<PathBuf, SnapshotError> {
        if let Some(pointer) = self.outside.get(&id) {
            self.follow(pointer)?;
        }
        let missing = || {
            let mut ids: Vec<String> = self.files.keys().map(u32::to_string).collect();
            if self.layout == Layout::Chain {
                ids.pop();
            }
            SnapshotError::Missing {
                id,
                directory: self.directory.clone(),
                present: if ids.is_empty() { "no snapshot".into() } else { ids.join(", ") },
            }
        };
        let file = match (self.current.get(&id), self.files.get(&id)) {
            // Another snapshot's content moved into the file of this number: this one is gone.
            (None, Some(file)) if self.carries_another(file) => return Err(missing()),
            (Some(file), _) | (None, Some(file)) => file.clone(),
            (None, None) => return Err(missing()),
        };
        if self.layout == Layout::Chain && same(&file, self.active_file()) {
            return Err(SnapshotError::Live { id, file });
        }
        if file.metadata().is_err() {
            return Err(missing());
        }
        Ok(file)
    }

    fn carries_another(&self, file: &Path) -> bool {
        self.current.values().any(|carrier| same(carrier, file))
    }

    /// The backing file's name in the qcow2 image at `path`; `None` where it has none or is no qcow2.
    fn backing_name(&self, path: &Path) -> Result<Option<Vec<u8>>, SnapshotError> {
        let file = open_inside(path, &self.datastore).map_err(unreadable(path))?;
        let mut magic = [0; 4];
        disk_image::qcow2::read_up_to(&file, &mut magic, 0).map_err(unreadable(path))?;
        if magic != *b"QFI\xfb" {
            return Ok(None);
        }
        let header = Header::read(&file).map_err(|error: ImageError| SnapshotError::Refused {
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(header.backing_file)
    }

    /// The chain of overlays whose top is `file`.
    ///
    /// # Errors
    /// Where it leaves the datastore or can't be read.
    pub fn chain(&self, file: &Path) -> Result<Chain, SnapshotError> {
        open_chain(file, &self.datastore)
            .map_err(|source| SnapshotError::Refused { path: file.to_owned(), source })
    }

    /// The name by which a new active file shall know `file` as its backing file: in the way in which
    /// the active file names its own, so that the driver that made the chain resolves it.
    ///
    /// # Errors
    /// Where the active file can't be read.
    pub fn backing_name_for(&self, file: &Path) -> Result<Vec<u8>, SnapshotError> {
        let active = self.active_file();
        if let Some(old) = self.backing_name(active)?
            && let Some(name) = file.file_name()
        {
            let prefix = old.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            let new = [&old[..prefix], name.as_bytes()].concat();
            let holder = active.canonicalize().map_err(unreadable(active))?;
            if BackingFile::named(&holder, &new).is_some_and(|new| same(&new.path, file)) {
                return Ok(new);
            }
        }
        Ok(file.as_os_str().as_bytes().to_vec())
    }

    /// The files to remove with snapshot `id`: the one that holds it, and what points there.
    ///
    /// # Errors
    /// Where it doesn't exist, is the live disk, or something depends on it.
    pub fn removal_of(&self, id: u32) -> Result<Vec<PathBuf>, SnapshotError> {
        let file = self.file_of(id)?;
        let Some(_) = self.current.get(&id) else {
            self.nothing_depends_on(&file, id, "deleted")?;
            return Ok(vec![file]);
        };
        let pointer = self.directory.join(format!("{id}.current"));
        let shared = self.current.iter().any(|(&other, path)| other != id && same(path, &file));
        let base = same(&file, &self.image);
        if shared || base {
            return Ok(vec![pointer]);
        }
        self.nothing_depends_on(&file, id, "deleted")?;
        // The file first: a pointer to nothing is no snapshot.
        Ok(vec![file, pointer])
    }

    /// The entry `S.snap/0` where that is a link to `S`, which is then the base of the chain.
    #[must_use]
    pub fn link_to_base(&self) -> Option<&Path> {
        let link = self.files.get(&0)?;
        let is_link = fs::symlink_metadata(link).is_ok_and(|metadata| metadata.is_symlink());
        (is_link && same(link, &self.image)).then_some(link)
    }

    /// Lets every file of the chain that backs on `S` know it by the entry that [`Self::link_to_base`] gives,
    /// so that the chain stays whole when `S` becomes another file and that entry doesn't. What each file
    /// holds is the same before and after.
    ///
    /// # Errors
    /// Where a file can't be read or written, or has no space for that name.
    pub fn know_base_by_link(&self) -> Result<(), SnapshotError> {
        let Some(link) = self.link_to_base() else { return Ok(()) };
        for file in self.files.values().filter(|file| !same(file, &self.image)) {
            let Some(name) = self.backing_name(file)? else { continue };
            let holder = file.canonicalize().map_err(unreadable(file))?;
            let Some(BackingFile { path: backing, .. }) = BackingFile::named(&holder, &name) else {
                continue;
            };
            let by_link = backing.file_name() == link.file_name()
                && backing.parent().is_some_and(|parent| same(parent, &self.directory));
            if by_link || !same(&backing, &self.image) {
                continue;
            }
            let opened = open_inside_to_write(&holder, &self.datastore);
            rename_backing_file(&opened.map_err(unreadable(file))?, link.as_os_str().as_bytes())
                .map_err(|error| SnapshotError::Refused {
                    path: file.clone(),
                    source: error.into(),
                })?;
        }
        Ok(())
    }
}

/// Whether a directory is named as transfer drivers name those for snapshots of a virtual machine's disk:
/// `disk.<number>.snap`.
fn is_snapshots_of_a_disk(directory: &Path) -> bool {
    directory
        .file_name()
        .and_then(OsStr::to_str)
        .and_then(|name| name.strip_prefix("disk.")?.strip_suffix(".snap"))
        .is_some_and(|disk| number(OsStr::new(disk)).is_some())
}

/// Whether two paths name the same existing file.
fn same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
