//! What killed drivers leave in a datastore, made by killing drivers: no test writes such files itself, so none of
//! them is about names that drivers no longer use.

use crate::faults::{Fault, points};
use crate::{Call, Cloud, Contents};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory in a datastore where drivers keep what is incomplete.
pub const WORK_DIRECTORY: &str = ".ferrostore-work";

impl Cloud {
    /// The directory in the datastore where drivers keep what is incomplete.
    pub fn work_directory(&self) -> PathBuf {
        self.datastore().join(WORK_DIRECTORY)
    }

    /// The names in that directory.
    pub fn left_overs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.work_directory()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Leaves in the datastore what drivers leave that are killed in these calls, each once its work directory holds an
    /// entry of this kind (`staging`, `trash`, ...). All else in the datastore is as before.
    pub fn leave(&self, killed: &[(Call, &str)]) {
        let start = Contents::of(&self.datastore());
        let collected = self.outside().join("left-overs");
        fs::create_dir(&collected).unwrap();
        for (call, kind) in killed {
            call.killed_leaving(kind);
            for name in self.left_overs() {
                let _ = fs::rename(self.work_directory().join(&name), collected.join(&name));
            }
            start.restore(&self.datastore());
        }
        fs::rename(collected, self.work_directory()).unwrap();
    }
}

impl Call<'_> {
    /// Makes the call and kills its driver at the first system call before which its work directory holds an entry of
    /// this kind with something in it; the name of the entry.
    pub fn killed_leaving(&self, kind: &str) -> String {
        let cloud = self.cloud();
        let start = Contents::of(&cloud.datastore());
        let (points, output) = points(cloud, self);
        assert!(output.status.success(), "{output:?}");
        for point in points.iter().filter(|point| point.first_thread) {
            start.restore(&cloud.datastore());
            self.clone().under(point.strace(Fault::Kill)).output();
            let found = cloud.left_overs().into_iter().find(|name| {
                name.starts_with(&format!("{kind}."))
                    && is_filled(&cloud.work_directory().join(name))
            });
            if let Some(name) = found {
                return name;
            }
        }
        panic!("no killed driver leaves an entry of the kind {kind}");
    }
}

/// Whether a file has bytes, or a directory entries.
fn is_filled(path: &Path) -> bool {
    fs::read_dir(path).map_or_else(
        |_| path.metadata().is_ok_and(|metadata| metadata.len() > 0),
        |mut entries| entries.next().is_some(),
    )
}
