//! Snapshots as OpenNebula's transfer drivers leave them in a datastore, made for real with
//! qemu-img and qemu-io.

mod chain;
mod copies;
mod layout;

pub use chain::Chain;
pub use copies::Copies;
pub use layout::{Base, Layout, Level, Link, Naming};

use crate::{Call, Cloud, Listing, Reply, pattern, run, same_content};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The snapshots of one image, whichever way they lie, and reference copies of what each file
/// held before the call under test.
#[derive(Debug)]
pub struct Snapshots<'cloud> {
    cloud: &'cloud Cloud,
    tm_mad: &'static str,
    format: String,
    base_path: String,
    name: String,
    references: BTreeMap<u32, PathBuf>,
}

impl<'cloud> Snapshots<'cloud> {
    fn new(
        cloud: &'cloud Cloud,
        tm_mad: &'static str,
        format: &str,
        base_path: String,
        name: &str,
    ) -> Self {
        let snapshots = Self {
            cloud,
            tm_mad,
            format: format.to_owned(),
            base_path,
            name: name.to_owned(),
            references: BTreeMap::new(),
        };
        fs::create_dir(snapshots.directory()).unwrap();
        // What oned's old drivers left next to an image; stale once the image changes.
        fs::write(format!("{}.md5sum", snapshots.source()), "0123456789abcdef0123456789abcdef\n")
            .unwrap();
        // Another image and its snapshot, which must stay as they are.
        let neighbour = format!("{}/{}", snapshots.base_path, "b".repeat(32));
        fs::write(&neighbour, pattern(17, 5000)).unwrap();
        fs::create_dir(format!("{neighbour}.snap")).unwrap();
        fs::write(format!("{neighbour}.snap/0"), pattern(18, 5000)).unwrap();
        snapshots
    }

    /// The image's SOURCE as oned has it.
    pub fn source(&self) -> String {
        format!("{}/{}", self.base_path, self.name)
    }

    /// The name of the image's file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory `S.snap`.
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(format!("{}.snap", self.source()))
    }

    /// The file `S.snap/<number>`.
    pub fn file(&self, number: u32) -> PathBuf {
        self.directory().join(number.to_string())
    }

    /// The path of an entry of `S.snap` below the datastore's directory, as listings have it.
    pub fn entry(&self, name: impl std::fmt::Display) -> String {
        format!("{}.snap/{name}", self.name)
    }

    /// What a file held when it was made, as a raw disk.
    pub fn reference(&self, number: u32) -> &Path {
        &self.references[&number]
    }

    /// Takes (again) the reference copy of a disk.
    fn refer(&mut self, number: u32, disk: &Path) {
        let path = self.cloud.outside().join(format!("{}.{number}.raw", self.name));
        let disk = disk.canonicalize().unwrap();
        run(
            "qemu-img",
            [
                "convert",
                "-f",
                &self.format,
                "-O",
                "raw",
                disk.to_str().unwrap(),
                path.to_str().unwrap(),
            ],
        );
        self.references.insert(number, path);
    }

    /// A call of `action` for snapshot `number`.
    pub fn call(&self, action: &str, number: u32) -> Call<'cloud> {
        self.cloud
            .snap(action, self.source(), &self.format, number)
            .set("DATASTORE/BASE_PATH", &self.base_path)
            .set("DATASTORE/TM_MAD", self.tm_mad)
            .set("DATASTORE/TEMPLATE/TM_MAD", self.tm_mad)
    }

    /// Checks that a disk holds what file `number` held when it was made.
    #[track_caller]
    pub fn check_content(&self, disk: impl AsRef<Path>, number: u32) {
        let disk = disk.as_ref().canonicalize().expect("the disk is there");
        same_content(&disk, &self.format, self.reference(number), "raw");
    }

    /// Checks that the call changed or made just the entries `changed` and removed just `gone`,
    /// besides `S.md5sum`, which always goes.
    #[track_caller]
    pub fn check_changes(&self, reply: &Reply, changed: &[&str], gone: &[&str]) {
        self.check_changes_but_digest(reply, changed, gone);
        self.check_digest_is_gone();
    }

    /// The same, whether or not `S.md5sum` went.
    #[track_caller]
    pub fn check_changes_but_digest(&self, reply: &Reply, changed: &[&str], gone: &[&str]) {
        let outcome = &reply.outcome;
        assert_eq!(outcome.after.changed_since(&outcome.before), changed, "what the call changed");
        let mut removed = outcome.after.gone_since(&outcome.before);
        removed.retain(|name| *name != self.digest());
        let mut expected: Vec<&str> = gone.to_vec();
        expected.sort_unstable();
        assert_eq!(removed, expected, "what the call removed");
    }

    /// Checks that `S.md5sum` is no longer there.
    #[track_caller]
    pub fn check_digest_is_gone(&self) {
        let digest = self.directory().with_file_name(self.digest());
        assert!(!digest.exists(), "{} is stale", digest.display());
    }

    fn digest(&self) -> String {
        format!("{}.md5sum", self.name)
    }

    /// The entries of `S.snap` and the directory itself, as listings have them.
    pub fn entries(&self) -> Vec<String> {
        let inside = Listing::of(&self.directory());
        let mut entries: Vec<String> = inside.names().into_iter().map(|n| self.entry(n)).collect();
        entries.insert(0, format!("{}.snap", self.name));
        entries
    }

    /// Writes `S.snap/<number>.current`, naming `path` as the file that carries the snapshot.
    pub fn current(&self, number: u32, path: impl AsRef<Path>) -> String {
        let name = format!("{number}.current");
        let text = format!("{}\n", path.as_ref().display());
        fs::write(self.directory().join(&name), text).unwrap();
        self.entry(name)
    }
}
