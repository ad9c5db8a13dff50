//! What an installation takes back if it fails, or is told to stop.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A step that can be taken back.
pub(super) enum Step {
    /// A new directory, which is removed if it is empty.
    Directory(PathBuf),
    /// A new directory with all in it.
    Tree(PathBuf),
    /// A new file.
    File(PathBuf),
    /// A file that has taken the place of another one, which has this name now.
    Replaced(PathBuf, PathBuf),
    /// Anything else.
    Other(Box<dyn FnOnce() + Send>),
}

impl Step {
    fn undo(self) {
        // What can't be taken back is not there, or can't be changed any more: nothing is left to do.
        let _ = match self {
            Self::Directory(path) => fs::remove_dir(path),
            Self::Tree(path) => fs::remove_dir_all(path),
            Self::File(path) => fs::remove_file(path),
            Self::Replaced(path, old) => fs::rename(old, path),
            Self::Other(undo) => {
                undo();
                Ok(())
            }
        };
    }
}

/// The steps so far. All are taken back, last one first, unless [`Self::finish`] is called.
#[derive(Clone, Default)]
pub(super) struct Steps(Arc<Mutex<Vec<Step>>>);

impl Steps {
    /// Does a step, and remembers how it is taken back.
    pub(super) fn take<E>(
        &self,
        step: Step,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work()?;
        steps.push(step);
        Ok(())
    }

    /// Makes a directory with those above it that are missing; `owned` is called for each.
    pub(super) fn make_directory(
        &self,
        path: &Path,
        owned: &dyn Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev() {
            self.take(Step::Directory(path.to_owned()), || fs::create_dir(path))?;
            owned(path)?;
        }
        Ok(())
    }

    /// Takes everything back.
    pub(super) fn undo(&self) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(step) = steps.pop() {
            step.undo();
        }
    }

    /// As [`Self::undo`], for a process that ends now: no further step is taken.
    pub(super) fn undo_for_good(&self) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(step) = steps.pop() {
            step.undo();
        }
        std::mem::forget(steps);
    }

    /// Lets everything stay.
    pub(super) fn finish(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
