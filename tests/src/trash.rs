//! The trash of a datastore, as an administrator sees it.

use crate::{Call, Cloud, Said};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The name of the trash in a datastore.
pub const TRASH: &str = ".ferrostore-trash";

impl Cloud {
    /// The trash of the datastore.
    pub fn trash_directory(&self) -> PathBuf {
        self.datastore().join(TRASH)
    }

    /// Runs `ferrostore trash` with this verb on the datastore, and these arguments after it.
    #[track_caller]
    pub fn trash<S: AsRef<OsStr>>(
        &self,
        verb: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Said {
        self.ferrostore(self.trash_arguments(verb, arguments))
    }

    fn trash_arguments<S: AsRef<OsStr>>(
        &self,
        verb: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["trash".into(), verb.into(), self.datastore().into()];
        all.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        all
    }

    /// The same as a call, which can be made under another program.
    pub fn trash_call<S: AsRef<OsStr>>(
        &self,
        verb: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Call<'_> {
        self.call("ferrostore").arguments(self.trash_arguments(verb, arguments))
    }

    /// What is in the trash, oldest first.
    #[track_caller]
    pub fn trashed(&self) -> Vec<Value> {
        self.trash("list", ["--json"]).well().json_lines()
    }

    /// The numbers of the images in the trash, oldest first.
    #[track_caller]
    pub fn trashed_images(&self) -> Vec<u64> {
        self.trashed().iter().map(|image| image["image"].as_u64().expect("a number")).collect()
    }

    /// Makes everything in the trash older by `time`, as if it had passed.
    pub fn pass_time(&self, time: Duration) {
        for entry in fs::read_dir(self.trash_directory()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let (deleted, rest) = name.split_once('.').unwrap();
            let deleted: u64 = deleted.parse().unwrap();
            let earlier = deleted - time.as_millis() as u64;
            fs::rename(&path, path.with_file_name(format!("{earlier}.{rest}"))).unwrap();
        }
    }

    /// Checks that the trash holds whole images only, and is not there without any.
    #[track_caller]
    pub fn check_trash(&self) {
        let Ok(entries) = fs::read_dir(self.trash_directory()) else { return };
        let names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_ne!(names, [""; 0], "an empty trash goes");
        for name in names {
            assert!(name.starts_with(|c: char| c.is_ascii_digit()), "{name} is left in the trash");
            assert!(self.trash_directory().join(&name).join("record").exists(), "{name}");
        }
    }
}

impl Call<'_> {
    /// Sets how long deleted images are kept.
    pub fn keeping(self, time: &str) -> Self {
        self.set("DATASTORE/TEMPLATE/TRASH", time)
    }

    /// Sets the number of the image.
    pub fn image_id(self, id: u64) -> Self {
        self.set_escaped("IMAGE/ID", id.to_string())
    }
}
