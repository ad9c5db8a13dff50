//! Whether a file datastore is whole: what `fsck` tells of it.
//!
//! [`examine`] looks at every entry of the directory, in the order of their names, and hands over what it
//! finds one by one, so that memory doesn't grow with what images hold. Everything is opened for reading
//! only; nothing is locked but for the moment that it takes to see whether a left-over has an owner.

mod image;
mod known;
pub mod pool;
mod report;
mod trash;

pub use image::Facts;
pub use known::{Known, KnownImage};
pub use report::{Form, Report};

use crate::progress;
use crate::snapshots::with_suffix;
use runtime::staging;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Why a datastore can't be examined at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The directory can't be read.
    #[error(
        "the datastore {directory} can't be read: {source}; give the directory of a file datastore, as a user that may read it (oneadmin)"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of images can't be used.
    #[error("--images {path}: {reason}")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The report can't be written.
    #[error("the report can't be written to standard output: {0}")]
    Output(#[from] io::Error),
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No data is at risk: something is in the way, or takes space.
    Warning,
    /// An image or a snapshot can't be used as oned believes it can.
    Damage,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, and what to do: one line.
    pub what: String,
}

impl Problem {
    fn warning(what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, what: what.into() }
    }

    fn damage(what: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, what: what.into() }
    }
}

/// What an entry of the datastore's directory is.
#[derive(Debug)]
pub enum Role {
    /// An image, and what there is to know about it.
    Image(Facts),
    /// An RBD image, and what there is to know about it.
    Volume(pool::VolumeFacts),
    /// An image that oned knows and the disk has not.
    Missing,
    /// What a driver has written and not finished.
    LeftOver {
        /// Whether a driver still works on it.
        live: bool,
    },
    /// The trash.
    Trash {
        /// Images in it.
        images: u64,
        /// Space that they take, bytes.
        allocated: u64,
    },
    /// Something that belongs to an image that is not there.
    Part,
    /// None of these.
    Unknown,
}

/// An entry of the datastore's directory.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub role: Role,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What a whole datastore comes to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Images on disk.
    pub images: u64,
    /// Problems of any kind.
    pub problems: u64,
    /// The worst of them.
    pub worst: Option<Severity>,
}

/// Names that OpenNebula, NFS servers and file systems put beside images.
const HOUSEKEEPING: [&str; 3] = [".automounted", "lost+found", ".snapshot"];
/// What belongs to an image, by the end of its name.
const PARTS: [&str; 2] = [".snap", ".md5sum"];

/// Examines the datastore in `directory`, against what oned knows of it where that is given, and hands
/// each entry to `visit`.
///
/// # Errors
/// Where the directory can't be read, or as `visit`. What is wrong with an image is no error.
pub fn examine(
    directory: &Path,
    known: Option<&Known>,
    visit: &mut dyn FnMut(&Entry) -> io::Result<()>,
) -> Result<Verdict, CheckError> {
    let mut verdict = Verdict::default();
    let mut tell = |entry: &Entry| {
        verdict.images += u64::from(matches!(entry.role, Role::Image(_)));
        verdict.problems += entry.problems.len() as u64;
        verdict.worst = verdict.worst.max(entry.problems.iter().map(|p| p.severity).max());
        visit(entry)
    };
    let names = names_in(directory)?;
    progress::begin_counting(names.len() as u64);
    for path in staging::unfinished(directory) {
        let name = path.strip_prefix(directory).unwrap_or(&path).as_os_str().to_owned();
        if let Some((role, problems)) = left_over(&path) {
            tell(&Entry { name, role, problems })?;
        }
    }
    let trashed = trash::examine(directory);
    if let Some(entry) = &trashed.entry {
        tell(entry)?;
    }
    for name in &names {
        if let Some(entry) = look_at(directory, name, &names, known) {
            tell(&entry)?;
        }
        progress::advance(1);
    }
    for (name, image) in known.into_iter().flat_map(Known::images) {
        if !names.contains(name) && !image.may_be_absent {
            let remedy = if trashed.names.contains(name) {
                format!(
                    "it is in the trash; bring it back with `ferrostore trash restore {} {}`",
                    directory.display(),
                    name.display()
                )
            } else {
                "bring it back from a backup, or delete the image".to_owned()
            };
            let what = format!("{} is not in {}: {remedy}", image.called(), directory.display());
            let problems = vec![Problem::damage(what)];
            tell(&Entry { name: name.clone(), role: Role::Missing, problems })?;
        }
    }
    Ok(verdict)
}

fn names_in(directory: &Path) -> Result<BTreeSet<OsString>, CheckError> {
    let failed = |source| CheckError::Directory { directory: directory.to_owned(), source };
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.file_name()).map_err(failed))
        .collect()
}

/// What the entry `name` is; `None` where there is nothing to tell.
fn look_at(
    directory: &Path,
    name: &OsStr,
    names: &BTreeSet<OsString>,
    known: Option<&Known>,
) -> Option<Entry> {
    let path = directory.join(name);
    let entry = |role, problems| Some(Entry { name: name.to_owned(), role, problems });
    // It may have been removed since the directory was read.
    let metadata = fs::symlink_metadata(&path).ok()?;
    if HOUSEKEEPING.iter().any(|known| name == *known) || staging::is_own(name) {
        return None;
    }
    if let Some(image) = image_of_part(name) {
        if names.contains(image) {
            return None;
        }
        let problem = if metadata.is_dir() {
            Problem::damage(format!(
                "these snapshots belong to no image: {} is not there; bring it back from a backup, or remove them",
                image.display()
            ))
        } else {
            Problem::warning(format!(
                "this digest belongs to no image: {} is not there; remove it",
                image.display()
            ))
        };
        return entry(Role::Part, vec![problem]);
    }
    let recorded = known.and_then(|known| known.image(name));
    if recorded.is_none() && (metadata.is_dir() || !is_image_name(name)) {
        let what = if metadata.is_dir() { "directory" } else { "file" };
        let problem = Problem::warning(format!(
            "this {what} has not the name of an image, and no driver made it; move it elsewhere if it is not needed here"
        ));
        return entry(Role::Unknown, vec![problem]);
    }
    let (facts, mut problems) = image::examine(&path, directory, recorded);
    problems.extend(stale_digest(&path));
    if known.is_some() && recorded.is_none() {
        problems.push(Problem::warning(
            "oned doesn't know this image: it is an orphan, unless it was registered after the list was made",
        ));
    }
    entry(Role::Image(facts), problems)
}

/// The image that an entry belongs to, by its name: `S` for `S.snap` and `S.md5sum`.
fn image_of_part(name: &OsStr) -> Option<&OsStr> {
    PARTS
        .iter()
        .find_map(|part| name.as_bytes().strip_suffix(part.as_bytes()))
        .filter(|image| !image.is_empty())
        .map(OsStr::from_bytes)
}

/// Whether drivers name images so, these and OpenNebula's own: 32 hexadecimal digits.
fn is_image_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() == 32 && name.iter().all(u8::is_ascii_hexdigit)
}

fn left_over(path: &Path) -> Option<(Role, Vec<Problem>)> {
    match staging::is_locked(path) {
        Ok(true) => Some((Role::LeftOver { live: true }, Vec::new())),
        Ok(false) => {
            let what = "a driver that was killed has left this; the next action on this datastore removes it";
            Some((Role::LeftOver { live: false }, vec![Problem::warning(what)]))
        }
        // Its driver has finished in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let what = format!("whether a driver still works on this can't be told: {error}");
            Some((Role::LeftOver { live: false }, vec![Problem::warning(what)]))
        }
    }
}

/// A digest that was made before its image was last written to.
fn stale_digest(image: &Path) -> Option<Problem> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let digest = with_suffix(image, ".md5sum");
    (modified(&digest)? < modified(image)?).then(|| {
        Problem::warning(format!(
            "{} is older than the image and may be wrong; remove it",
            digest.file_name().unwrap_or_default().display()
        ))
    })
}
