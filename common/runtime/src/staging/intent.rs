//! What a driver was about to do, noted on a file that its action leaves in place.
//!
//! Some actions can't be repeated once they have taken effect: what they were to remove isn't there any more.
//! A driver that was killed right then has not reported it. So it records its intent beforehand, as an
//! extended attribute, and takes the note away when all is done: who finds a note repeats an
//! action that was interrupted. Where there are no extended attributes (NFS before 4.2), there are no notes.

use std::path::Path;

/// The one extended attribute that drivers use.
const ATTRIBUTE: &str = "user.ferrostore";

/// Notes that `intent` is being done to what is at `path`.
pub fn record(path: &Path, intent: &str) {
    if let Err(error) = xattr::set(path, ATTRIBUTE, intent.as_bytes()) {
        log::debug!("no note on {}: {error}", path.display());
    }
}

/// Whether `intent` was begun and never ended.
#[must_use]
pub fn is_recorded(path: &Path, intent: &str) -> bool {
    matches!(xattr::get(path, ATTRIBUTE), Ok(Some(note)) if note == intent.as_bytes())
}

/// Takes the note away.
pub fn clear(path: &Path) {
    let _ = xattr::remove(path, ATTRIBUTE);
}
