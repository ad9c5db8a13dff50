//! A picture of a directory, to tell whether a call changed anything.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Every entry below a directory, hidden ones too, with what shows a change of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, String>);

impl Listing {
    /// Takes the picture. A directory that does not exist has an empty one.
    pub fn of(directory: &Path) -> Self {
        let mut entries = BTreeMap::new();
        collect(directory, "", &mut entries);
        Self(entries)
    }

    /// The names of all entries, relative to the directory.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The names that are here but not in `before`, or that changed since.
    pub fn changed_since(&self, before: &Self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(name, entry)| before.0.get(*name) != Some(entry))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The names that were in `before` and are no longer here.
    pub fn gone_since<'a>(&self, before: &'a Self) -> Vec<&'a str> {
        before.0.keys().filter(|name| !self.0.contains_key(*name)).map(String::as_str).collect()
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, entry) in &self.0 {
            write!(f, "\n  {name}: {entry}")?;
        }
        Ok(())
    }
}

fn collect(directory: &Path, prefix: &str, entries: &mut BTreeMap<String, String>) {
    let Ok(children) = fs::read_dir(directory) else {
        return;
    };
    for child in children.map(|child| child.expect("a directory can be read")) {
        let name = format!("{prefix}{}", child.file_name().to_string_lossy());
        let path = child.path();
        // Where calls run side by side, files of another one come and go.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        entries.insert(name.clone(), describe(&path, &metadata));
        if metadata.is_dir() {
            collect(&path, &format!("{name}/"), entries);
        }
    }
}

fn describe(path: &Path, metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let mode = metadata.mode() & 0o7777;
    if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).expect("a link").display())
    } else if kind.is_dir() {
        format!("directory {mode:o}")
    } else if kind.is_file() {
        format!(
            "{mode:o} inode {} {} bytes, modified {}.{:09}, content {:x}",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            fingerprint(path, metadata.len())
        )
    } else {
        format!("special {mode:o} fifo={}", kind.is_fifo())
    }
}

/// Bytes of a file that are looked at; beyond, its size and times must do.
const LOOKED_AT: u64 = 128 << 20;

fn fingerprint(path: &Path, length: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Ok(file) = File::open(path) else {
        return 0;
    };
    let mut file = file.take(LOOKED_AT.min(length));
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).expect("the file can be read") {
            0 => return hasher.finish(),
            count => hasher.write(&buffer[..count]),
        }
    }
}
