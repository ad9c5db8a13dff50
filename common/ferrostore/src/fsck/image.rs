//! One image: its format, its sizes, its snapshots, and whether every file of it can be read.

use super::{KnownImage, Problem};
use crate::policy::open_inside;
use crate::snapshots::{Layout, SnapshotError, Snapshots, directory_of, with_suffix};
use disk_image::admission::open_chain;
use disk_image::foreign;
use disk_image::probe::{Content, HEAD};
use disk_image::qcow2::{BackingFile, Encryption, Header, Layer, read_bytes};
use disk_image::{Format, ImageError};
use runtime::staging;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What there is to know about an image.
#[derive(Debug, Default)]
pub struct Facts {
    /// Its number in oned, or numbers; empty where no list was given.
    pub ids: Vec<u64>,
    /// Format of the image, by its first bytes or as recorded; `None` where it can't be read.
    pub format: Option<&'static str>,
    /// Size of its disk, bytes; `None` where its format doesn't tell.
    pub virtual_size: Option<u64>,
    /// Space that it takes with all its snapshots, bytes.
    pub allocated: u64,
    /// How its snapshots are laid out; `None`: it has none.
    pub layout: Option<Layout>,
    /// Numbers of the files in `S.snap`.
    pub files: Vec<u32>,
}

/// What a file turned out to be.
struct Found {
    format: &'static str,
    virtual_size: Option<u64>,
}

/// The work on one image.
struct Examination<'a> {
    datastore: &'a Path,
    recorded: Option<&'a KnownImage>,
    facts: Facts,
    problems: Vec<Problem>,
}

/// Examines the image at `path` in the directory `datastore`.
pub(super) fn examine(
    path: &Path,
    datastore: &Path,
    recorded: Option<&KnownImage>,
) -> (Facts, Vec<Problem>) {
    let mut examination =
        Examination { datastore, recorded, facts: Facts::default(), problems: Vec::new() };
    examination.image(path);
    (examination.facts, examination.problems)
}

impl Examination<'_> {
    fn damage(&mut self, what: impl Into<String>) {
        self.problems.push(Problem::damage(what));
    }

    fn image(&mut self, path: &Path) {
        if let Some(recorded) = self.recorded {
            self.facts.ids.clone_from(&recorded.ids);
            if recorded.ids.len() > 1 {
                self.damage(format!(
                    "{} say that they lie in this file: deleting one deletes the other",
                    recorded.called()
                ));
            }
        }
        let main = self.file(path, true);
        if let Some(found) = main {
            self.facts.format = Some(found.format);
            self.facts.virtual_size = found.virtual_size;
        }
        let format = match self.recorded {
            Some(recorded) if !recorded.format.is_empty() => recorded.format.as_str(),
            _ => self.facts.format.unwrap_or_default(),
        };
        match Snapshots::read(path, format, self.datastore) {
            Ok(Some(snapshots)) => self.snapshots(path, &snapshots),
            Ok(None) => self.no_snapshots(path),
            Err(error) => self.damage(format!("its snapshots can't be read: {error}")),
        }
    }

    fn no_snapshots(&mut self, image: &Path) {
        if fs::symlink_metadata(directory_of(image)).is_ok() {
            self.problems.push(Problem::warning(
                "its .snap directory holds no snapshot; remove it if no virtual machine uses the image",
            ));
        }
        if let Some(recorded) = self.recorded
            && !recorded.snapshots.is_empty()
        {
            let ids: Vec<String> = recorded.snapshots.iter().map(u32::to_string).collect();
            self.damage(format!(
                "oned knows the snapshots {}, and there are none on disk",
                ids.join(", ")
            ));
        }
    }

    fn snapshots(&mut self, image: &Path, snapshots: &Snapshots) {
        self.facts.layout = Some(snapshots.layout());
        self.facts.files = snapshots.files().map(|(id, _)| id).collect();
        // The same file may have several names; it is examined once.
        let mut seen: BTreeSet<PathBuf> = image.canonicalize().into_iter().collect();
        for (_, file) in snapshots.files() {
            if file.canonicalize().is_ok_and(|real| !seen.insert(real)) {
                continue;
            }
            let found = self.file(file, false);
            // What the virtual machine sees is the live disk.
            if file == snapshots.active_file()
                && let Some(found) = found
            {
                self.facts.virtual_size = found.virtual_size;
            }
        }
        for error in snapshots.invalid_pointers() {
            self.damage(error.to_string());
        }
        for id in self.recorded.map(|recorded| recorded.snapshots.as_slice()).unwrap_or_default() {
            match snapshots.file_of(*id) {
                // Told already.
                Ok(_) | Err(SnapshotError::InvalidPointer { .. }) => {}
                Err(_) => {
                    self.damage(format!("oned knows the snapshot {id}, and it is not on disk"));
                }
            }
        }
        self.unknown(image, snapshots.directory());
    }

    /// What lies in `S.snap` and is neither a snapshot nor what transfer drivers put beside them.
    fn unknown(&mut self, image: &Path, directory: &Path) {
        let own_link = with_suffix(image, ".snap");
        let own_link = own_link.file_name().unwrap_or_default();
        let usual = |name: &OsStr| {
            let text = name.to_str().unwrap_or_default();
            let id = text.strip_suffix(".current").unwrap_or(text);
            name == own_link || (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
        };
        // It could be read a moment ago: only its removal can refuse it now.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let in_work = name == staging::WORK_DIRECTORY
                && !matches!(staging::is_locked(&entry.path()), Ok(false));
            if !usual(&name) && !in_work {
                self.problems.push(Problem::warning(format!(
                    "{} in its .snap directory is no snapshot; move it elsewhere if it is not needed there",
                    name.display()
                )));
            }
        }
    }

    /// Examines one file; `main`: the image itself, whose format oned records.
    fn file(&mut self, path: &Path, main: bool) -> Option<Found> {
        let link = path.is_symlink();
        let prefix = if main && !link {
            String::new()
        } else {
            format!("{} ", shown_name(path, self.datastore))
        };
        if let Some(target) = dangling(path) {
            self.damage(format!("{prefix}is a link to {}, which is not there", target.display()));
            return None;
        }
        let file = match open_inside(path, self.datastore) {
            Ok(file) => file,
            Err(error) => {
                self.damage(format!("{prefix}can't be opened: {error}"));
                return None;
            }
        };
        let before = file.metadata().ok()?;
        self.facts.allocated += before.blocks() * 512;
        let recorded_format = self.recorded.map(|r| r.format.as_str()).unwrap_or_default();
        if self.recorded.is_some_and(|recorded| recorded.plain) {
            return Some(Found { format: "file", virtual_size: None });
        }
        match judged(path, &file, &before, self.datastore, recorded_format) {
            Ok((found, doubt)) => {
                let doubt = doubt.map(|doubt| Problem::warning(format!("{prefix}{doubt}")));
                self.problems.extend(doubt);
                Some(found)
            }
            Err(_) if changed_since(&file, &before) => {
                self.problems.push(Problem::warning(format!(
                    "{prefix}is being written to, so it could not be checked; check it again when no virtual machine uses it"
                )));
                None
            }
            Err(reason) => {
                self.damage(format!("{prefix}{reason}"));
                None
            }
        }
    }
}

/// The name of a file as it is told: where it really lies below the datastore's directory.
fn shown_name(path: &Path, datastore: &Path) -> String {
    let real = path.canonicalize().ok().zip(datastore.canonicalize().ok());
    let below = real.as_ref().and_then(|(path, datastore)| path.strip_prefix(datastore).ok());
    below.or(path.strip_prefix(datastore).ok()).unwrap_or(path).display().to_string()
}

/// Where a link leads that leads nowhere.
fn dangling(path: &Path) -> Option<PathBuf> {
    let missing = path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if missing { fs::read_link(path).ok() } else { None }
}

fn changed_since(file: &File, before: &Metadata) -> bool {
    let state = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    file.metadata().is_ok_and(|now| state(&now) != state(before))
}

/// What the file is, and what is doubtful about it.
///
/// # Errors
/// What is wrong with it; the text goes on after the file's name.
fn judged(
    path: &Path,
    file: &File,
    metadata: &Metadata,
    datastore: &Path,
    recorded: &str,
) -> Result<(Found, Option<String>), String> {
    if metadata.len() == 0 {
        return Err("is empty".to_owned());
    }
    let head = read_bytes(file, 0, HEAD).map_err(|error| format!("can't be read: {error}"))?;
    let content = Content::of(&head);
    let raw = Found { format: "raw", virtual_size: Some(metadata.len()) };
    let (found, doubt) = match content {
        // A guest writes what it likes into a raw disk.
        Content::Disk(format) if recorded == "raw" && format != Format::Raw => {
            let doubt = format!(
                "is recorded as raw, but begins like a {format} image: either its virtual machine wrote that, or FORMAT is wrong"
            );
            (raw, Some(doubt))
        }
        Content::Disk(Format::Raw) | Content::Luks => (raw, None),
        Content::Disk(Format::Qcow2) => {
            let size = qcow2(path, file, datastore)?;
            (Found { format: "qcow2", virtual_size: Some(size) }, None)
        }
        Content::Disk(format) => {
            let read_at = |offset, length| read_bytes(file, offset, length);
            let size =
                foreign::virtual_size(format, &read_at).map_err(|error| error.to_string())?;
            (Found { format: format.name(), virtual_size: Some(size) }, None)
        }
        Content::Compressed(compression) => {
            (Found { format: compression.name(), virtual_size: None }, None)
        }
        Content::Refused(name) if recorded != "raw" => {
            (raw, Some(format!("looks like a {name} file, which no driver registers")))
        }
        Content::Ambiguous(one, other) if recorded != "raw" => {
            (raw, Some(format!("could be {one} as well as {other}; convert it to one of them")))
        }
        Content::Refused(_) | Content::Ambiguous(..) => (raw, None),
    };
    if recorded == "qcow2" && found.format != "qcow2" {
        return Err(format!("is recorded as qcow2, but is {}", found.format));
    }
    Ok((found, doubt))
}

/// Checks a qcow2 file and what it backs on; its virtual size in bytes.
fn qcow2(path: &Path, file: &File, datastore: &Path) -> Result<u64, String> {
    let damaged = |error: ImageError| error.to_string();
    let layer =
        Layer::open(file.try_clone().map_err(|error| error.to_string())?).map_err(damaged)?;
    layer.verify().map_err(damaged)?;
    let header: &Header = layer.header();
    if header.has_data_file {
        return Err("keeps its data in another file, which no driver follows".to_owned());
    }
    let Some(name) = &header.backing_file else { return Ok(header.size) };
    if header.encryption == Encryption::None {
        open_chain(path, datastore).map_err(|error| error.to_string())?;
        return Ok(header.size);
    }
    // Its data are unreadable here, but its backing file must be there all the same.
    let real = path.canonicalize().map_err(|error| format!("can't be opened: {error}"))?;
    let Some(BackingFile { path: backing, .. }) = BackingFile::named(&real, name) else {
        return Err(format!(
            "has the backing file {}, which is no whole file of this machine",
            String::from_utf8_lossy(name)
        ));
    };
    open_inside(&backing, datastore).map_err(|error| {
        format!("has the backing file {}, which can't be used: {error}", backing.display())
    })?;
    Ok(header.size)
}
