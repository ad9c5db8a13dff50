//! The space of the trash, for what needs it.

use super::trash::{Trashed, leave, list, purge};
use crate::space::Need;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Deletes images in the trash, oldest first, where their space is needed.
#[derive(Debug)]
pub struct Reclaim {
    datastore: PathBuf,
    waiting: VecDeque<Trashed>,
    freed: u64,
    /// Bytes that are to be freed in all for the image that is being written, as far as that is known.
    budget: Option<u64>,
}

impl Reclaim {
    /// For the trash of `datastore`, which is read once something is needed.
    #[must_use]
    pub fn new(datastore: &Path) -> Self {
        Self { datastore: datastore.to_owned(), waiting: VecDeque::new(), freed: 0, budget: None }
    }

    /// Deletes as many images as free what is needed at once, and at least one, unless nothing is; whether there is more space
    /// now. What would not fit even without any of them costs none.
    pub fn free(&mut self, mut need: Need) -> bool {
        if self.waiting.is_empty() {
            self.waiting = list(&self.datastore).unwrap_or_default().images.into();
        }
        if self.waiting.is_empty() {
            return false;
        }
        let held = self.waiting.iter().map(|trashed| trashed.bytes).fold(0, u64::saturating_add);
        let all = need.in_all(held);
        if all.is_some_and(|all| all > held) {
            log::warn!(
                "the trash keeps its {} MiB, because the image would not fit in their place either",
                held >> 20
            );
            return false;
        }
        if let Some(all) = all {
            self.budget = Some(self.freed.saturating_add(all));
        }
        // Each time that a writer has to ask costs it a moment: so the steps grow with what it has needed before.
        let step = need.bytes().max(self.freed / 8);
        let rest = self.budget.map(|budget| budget.saturating_sub(self.freed));
        let wanted = match rest {
            // What a writer asks for before it begins.
            Some(rest) if need.bytes() == 0 => rest,
            Some(rest) if rest > 0 => step.min(rest).max(need.bytes()),
            _ => step,
        };
        wanted == 0 || self.delete(wanted)
    }

    /// Deletes at least one image, and as many as free `wanted` bytes; whether there was any.
    fn delete(&mut self, wanted: u64) -> bool {
        let (mut freed, mut any) = (0, false);
        while freed < wanted || !any {
            let Some(oldest) = self.waiting.pop_front() else { break };
            if matches!(purge(&self.datastore, &oldest), Ok(true)) {
                log::info!(
                    "removed {} from the trash before its time, because its space is needed",
                    oldest.image.display()
                );
                freed += oldest.bytes;
                any = true;
            }
        }
        self.freed += freed;
        if self.waiting.is_empty() {
            leave(&self.datastore);
        }
        any
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::trash::of;
    use super::*;
    use std::ffi::OsString;
    use std::fs;

    #[test]
    fn the_oldest_are_deleted_first_and_no_more_than_needed() {
        let directory = tempfile::tempdir().unwrap();
        let datastore = directory.path();
        for (number, name) in ["c", "a", "d", "b"].into_iter().enumerate() {
            let entry = of(datastore).join(format!("{}.60.4096.{name}", 1000 - number));
            fs::create_dir_all(&entry).unwrap();
            fs::write(entry.join("1d.x"), "x").unwrap();
        }
        let names = || -> Vec<OsString> {
            list(datastore).unwrap().images.into_iter().map(|entry| entry.image).collect()
        };
        assert_eq!(names(), ["b", "d", "a", "c"]);
        let mut reclaim = Reclaim::new(datastore);
        assert!(reclaim.free(Need::of(1)));
        assert_eq!(names(), ["d", "a", "c"]);
        // What needs more than there is costs nothing, and what needs nothing.
        assert!(!reclaim.free(Need::with_outlook(1, |limit| limit + 1)));
        assert!(reclaim.free(Need::with_outlook(0, |_| 0)));
        assert_eq!(names(), ["d", "a", "c"]);
        assert!(reclaim.free(Need::with_outlook(4097, |limit| limit)));
        assert_eq!(names(), ["c"]);
        assert!(reclaim.free(Need::of(1 << 40)));
        assert!(!reclaim.free(Need::of(1)));
        assert!(!of(datastore).exists());
    }
}
