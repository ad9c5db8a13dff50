//! What goes wrong with files in the work directory.

use crate::space::is_exhausted;
use std::io;
use std::path::{Path, PathBuf};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be {step}: {}{source}", no_space_hint(source))]
pub struct StagingError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StagingError {
    /// Whether there is no space, or a quota is used up.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        is_exhausted(&self.source)
    }
}

/// What to say in front of an error that says that there is no space.
#[must_use]
pub fn no_space_hint(error: &io::Error) -> &'static str {
    if is_exhausted(error) {
        "the datastore has no space left; free some or enlarge it: "
    } else {
        ""
    }
}

pub(super) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StagingError {
    move |source| StagingError { step, path: path.to_owned(), source }
}
