//! What a datastore holds, to be compared and put back.

use crate::WORK_DIRECTORY;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

#[derive(Clone, PartialEq, Eq)]
enum Entry {
    Directory,
    Link(PathBuf),
    File(Vec<u8>),
    /// A file of so many bytes, which are too many to keep.
    Large(u64),
}

/// Larger files are known by their size alone, and can't be restored.
const LARGE: u64 = 80 << 20;

/// The names, links and bytes in a directory; nothing of owners and times.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, Entry>);

impl Contents {
    /// Those of `directory`, without what drivers have not finished yet.
    pub fn of(directory: &Path) -> Self {
        let mut entries = BTreeMap::new();
        collect(directory, "", &mut entries);
        Self(entries)
    }

    /// The names directly in the directory.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| !name.contains('/'))
    }

    /// A number for them.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, entry) in &self.0 {
            name.hash(&mut hasher);
            match entry {
                Entry::File(bytes) => (1, fingerprint(bytes)).hash(&mut hasher),
                Entry::Link(target) => (2, target).hash(&mut hasher),
                Entry::Directory => 3.hash(&mut hasher),
                Entry::Large(size) => (4, size).hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    /// Removes an entry from this picture; what a file of that name held.
    pub fn without(&mut self, name: &str) -> Option<Vec<u8>> {
        match self.0.remove(name) {
            Some(Entry::File(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Makes `directory` hold this again.
    pub fn restore(&self, directory: &Path) {
        let _ = fs::remove_dir_all(directory.join(WORK_DIRECTORY));
        let now = Self::of(directory);
        for (name, entry) in now.0.iter().rev() {
            if self.0.get(name) != Some(entry) {
                let path = directory.join(name);
                match entry {
                    Entry::Directory => fs::remove_dir_all(path).unwrap(),
                    _ => drop(fs::remove_file(path)),
                }
            }
        }
        for (name, entry) in &self.0 {
            let path = directory.join(name);
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match entry {
                Entry::Directory => fs::create_dir(path).unwrap(),
                Entry::Link(target) => symlink(target, path).unwrap(),
                Entry::File(bytes) => write_sparse(&path, bytes),
                Entry::Large(_) => panic!("{} is too large to be restored", path.display()),
            }
        }
    }
}

/// A number for these bytes, quickly.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut number = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        number =
            (number.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    number
}

fn write_sparse(path: &Path, bytes: &[u8]) {
    const BLOCK: usize = 4096;
    let file = File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|&byte| byte != 0) {
            file.write_all_at(block, (number * BLOCK) as u64).unwrap();
        }
    }
}

fn collect(directory: &Path, prefix: &str, entries: &mut BTreeMap<String, Entry>) {
    for child in fs::read_dir(directory).into_iter().flatten() {
        let child = child.expect("a directory can be read");
        let name = child.file_name().to_string_lossy().into_owned();
        if prefix.is_empty() && name == WORK_DIRECTORY {
            continue;
        }
        let name = format!("{prefix}{name}");
        let path = child.path();
        let kind = child.file_type().expect("the kind of a file is known");
        let entry = if kind.is_symlink() {
            Entry::Link(fs::read_link(&path).unwrap())
        } else if kind.is_dir() {
            collect(&path, &format!("{name}/"), entries);
            Entry::Directory
        } else if child.metadata().is_ok_and(|metadata| metadata.len() > LARGE) {
            Entry::Large(child.metadata().unwrap().len())
        } else {
            Entry::File(fs::read(&path).unwrap())
        };
        entries.insert(name, entry);
    }
}
