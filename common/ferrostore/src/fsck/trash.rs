//! The trash of a datastore: whether what is in it can be brought back.

use super::{Entry, Problem, Role};
use crate::trash::Record;
use runtime::staging::trash::{self, Trashed};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// What there is to know of a trash.
#[derive(Default)]
pub(super) struct Found {
    /// What is told of it; `None` where there is none.
    pub(super) entry: Option<Entry>,
    /// Names of the files of the images in it.
    pub(super) names: BTreeSet<OsString>,
}

pub(super) fn examine(directory: &Path) -> Found {
    let entry = |images, allocated, problems| {
        Some(Entry { name: trash::NAME.into(), role: Role::Trash { images, allocated }, problems })
    };
    let contents = match trash::list(directory) {
        Ok(contents) => contents,
        Err(error) => {
            let problem = Problem::warning(format!("the trash can't be read: {error}"));
            return Found { entry: entry(0, 0, vec![problem]), ..Found::default() };
        }
    };
    let strays = contents.strays.iter().map(|name| {
        Problem::warning(format!(
            "{} in the trash is no image that was deleted; move it elsewhere if it is not needed there",
            name.display()
        ))
    });
    let problems: Vec<Problem> = contents
        .images
        .iter()
        .filter_map(|trashed| problem(directory, trashed))
        .chain(strays)
        .collect();
    let allocated =
        contents.images.iter().map(|trashed| trashed.bytes).fold(0, u64::saturating_add);
    let images = contents.images.len() as u64;
    let any = images > 0 || !problems.is_empty();
    Found {
        entry: any.then(|| entry(images, allocated, problems)).flatten(),
        names: contents.images.into_iter().map(|trashed| trashed.image).collect(),
    }
}

/// What is wrong with an image in the trash. It may have left it meanwhile.
fn problem(directory: &Path, trashed: &Trashed) -> Option<Problem> {
    let is_there = || trash::of(directory).join(trashed.key()).exists();
    let what = match trash::files(directory, trashed) {
        Ok(files) if files.is_empty() => "has no file any more; purge it".to_owned(),
        Ok(_) => match Record::read(directory, trashed) {
            Ok(_) => return None,
            Err(error) => {
                format!("has no record that can be read ({error}); it can be restored all the same")
            }
        },
        Err(error) => format!("can't be read: {error}"),
    };
    is_there().then(|| Problem::warning(format!("{} in the trash {what}", trashed.image.display())))
}
