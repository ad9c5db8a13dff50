//! What goes wrong with files in the work directory.

use std::io;
use std::path::{Path, PathBuf};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be {step}: {}{source}", no_space_hint(source))]
pub struct StagingError {
    step: &'static str,
    path: PathBuf,
    pub(super) source: io::Error,
}

/// What to say in front of an error that says that there is no space.
#[must_use]
pub fn no_space_hint(error: &io::Error) -> &'static str {
    if no_space(error) { "the datastore has no space left; free some or enlarge it: " } else { "" }
}

pub(super) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StagingError {
    move |source| StagingError { step, path: path.to_owned(), source }
}

pub(super) fn no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
