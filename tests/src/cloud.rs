//! A throw-away front-end with one datastore.

use crate::{Call, Disk, Listing, Message, Mount, executable};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A front-end of its own below `/var/tmp`: `ONE_LOCATION`, a datastore, a directory of users'
/// images (the only safe one) and one next to it (restricted, like everything else).
#[derive(Debug)]
pub struct Cloud {
    // Fields drop in this order: unmount before the directory goes.
    mounts: Vec<Mount>,
    root: PathBuf,
    _directory: TempDir,
}

impl Cloud {
    /// A cloud on the file system of `/var/tmp`, or of the directory `FERROSTORE_TEST_DIR`.
    pub fn new() -> Self {
        Self::build(None)
    }

    /// A cloud (images, datastore and all) on a file system of its own.
    pub fn on(disk: Disk) -> Self {
        Self::build(Some(disk))
    }

    /// A cloud on a file system of its own, whose disk is quick: it is in memory.
    pub fn on_quick(disk: Disk) -> Self {
        let directory = Self::directory();
        let memory = directory.path().join("memory");
        fs::create_dir(&memory).unwrap();
        let below = Mount::new(Disk::Tmpfs(1 << 30), &memory);
        let root = directory.path().join("world");
        fs::create_dir(&root).unwrap();
        let above = Mount::of(disk, &root, memory.join("disk"));
        Self::furnished(vec![above, below], root, directory)
    }

    /// The file system that the cloud is on, where it has one of its own.
    pub fn mount(&self) -> &Mount {
        &self.mounts[0]
    }

    /// A cloud whose datastore alone is on a file system of its own, a small one for example.
    pub fn with_datastore_on(disk: Disk) -> Self {
        let mut cloud = Self::build(None);
        let mount = Mount::new(disk, &cloud.datastore());
        // ext4 comes with this folder; a datastore has none.
        let _ = fs::remove_dir(cloud.datastore().join("lost+found"));
        cloud.mounts.push(mount);
        cloud
    }

    fn build(disk: Option<Disk>) -> Self {
        let directory = Self::directory();
        let root = directory.path().join("world");
        fs::create_dir(&root).unwrap();
        let mounts: Vec<Mount> = disk.map(|disk| Mount::new(disk, &root)).into_iter().collect();
        Self::furnished(mounts, root, directory)
    }

    fn directory() -> TempDir {
        tempfile::Builder::new()
            .prefix("ferrostore-test.")
            .tempdir_in(directory_of_clouds())
            .expect("the directory of clouds is writable")
    }

    fn furnished(mounts: Vec<Mount>, root: PathBuf, directory: TempDir) -> Self {
        // Built before a test measures how long a driver takes.
        executable("cp");
        let cloud = Self { mounts, root, _directory: directory };
        for folder in [
            cloud.datastore(),
            cloud.images(),
            cloud.outside(),
            cloud.home(),
            cloud.one_location().join("etc"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        cloud
    }

    /// The directory that holds everything of this cloud.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lets `user` write to the datastore and reach everything else.
    pub fn hand_over_to(&self, user: u32) {
        let top = self.root.parent().expect("a folder of its own");
        for folder in [top, &self.root] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(self.datastore(), Some(user), Some(user)).unwrap();
    }

    /// What `ONE_LOCATION` says.
    pub fn one_location(&self) -> PathBuf {
        self.root.join("one")
    }

    /// What `HOME` says.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// The directory of users' images, the only safe one.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// A directory that users may not register files from.
    pub fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// The datastore's directory.
    pub fn datastore(&self) -> PathBuf {
        self.root.join("one/var/datastores/104")
    }

    /// The datastore's directory as oned writes it, with its double slash.
    pub fn base_path(&self) -> String {
        format!("{}/one/var//datastores/104", self.root.display())
    }

    /// The SOURCE of an image as oned would have it; the file need not exist. `number` makes it
    /// unlike that of other images.
    pub fn source(&self, number: u32) -> String {
        format!("{}/{number:032x}", self.base_path())
    }

    /// Writes the administrator's `datastore.conf`.
    pub fn datastore_conf(&self, text: &str) {
        let folder = self.one_location().join("var/remotes/etc/datastore");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("datastore.conf"), text).unwrap();
    }

    /// Where OpenNebula's own downloader lies on the front-end.
    pub fn downloader(&self) -> PathBuf {
        self.one_location().join("var/remotes/datastore/downloader.sh")
    }

    /// A picture of the datastore's directory.
    pub fn listing(&self) -> Listing {
        Listing::of(&self.datastore())
    }

    fn image_message(&self) -> Message {
        self.safe(Message::image(&self.base_path()))
    }

    fn safe(&self, message: Message) -> Message {
        message
            .set("DATASTORE/TEMPLATE/RESTRICTED_DIRS", "/")
            .set("DATASTORE/TEMPLATE/SAFE_DIRS", self.images().to_str().unwrap())
    }

    /// A call of `action` with a message of the usual form for it and nothing special in it.
    pub fn call(&self, action: &str) -> Call<'_> {
        let message = match action {
            "stat" => self.safe(Message::stat(&self.base_path())),
            "monitor" => self.safe(Message::monitor(&self.base_path())),
            _ => self.image_message(),
        };
        Call::new(self, action, message)
    }

    /// Registers the file `path`.
    pub fn cp(&self, path: impl AsRef<Path>) -> Call<'_> {
        // What `stat` said before: large enough for all that the tests bring.
        self.call("cp").path(path).set_escaped("IMAGE/SIZE", "102400")
    }

    /// Measures the file `path`.
    pub fn stat(&self, path: impl AsRef<Path>) -> Call<'_> {
        let path = path.as_ref().to_str().expect("UTF-8").to_owned();
        self.call("stat").set_escaped("IMAGE/PATH", path)
    }

    /// Makes an empty image of `size` MiB.
    pub fn mkfs(&self, format: &str, size: &str) -> Call<'_> {
        self.call("mkfs")
            .set("IMAGE/TYPE", "2")
            .set("IMAGE/FORMAT", format)
            .set_escaped("IMAGE/SIZE", size)
    }

    /// Clones the image whose SOURCE is `path`.
    pub fn clone_of(&self, path: impl AsRef<Path>, format: &str) -> Call<'_> {
        self.call("clone")
            .path(path)
            .set("IMAGE/FORMAT", format)
            .set_escaped("IMAGE/CLONING_ID", "6")
    }

    /// Deletes the image `source`.
    pub fn rm(&self, source: impl AsRef<Path>) -> Call<'_> {
        self.call("rm").source(source)
    }

    /// Asks how full the datastore is.
    pub fn monitor(&self) -> Call<'_> {
        self.call("monitor")
    }

    /// Asks where the image can be fetched from.
    pub fn export(&self, source: impl AsRef<Path>, format: &str) -> Call<'_> {
        self.call("export").source(source).set("IMAGE/FORMAT", format)
    }

    /// Calls `snap_revert`, `snap_flatten` or `snap_delete` for snapshot `id` of `source`.
    pub fn snap(&self, action: &str, source: impl AsRef<Path>, format: &str, id: u32) -> Call<'_> {
        self.call(action)
            .source(source)
            .set("IMAGE/FORMAT", format)
            .set_escaped("IMAGE/PERSISTENT", "1")
            .set_escaped("IMAGE/TARGET_SNAPSHOT", id.to_string())
    }

    /// A call of each action by its name, in the order of the contract but for `rm`, which comes last: on the file
    /// `disk`, and on the raw image `source` and its snapshot 0.
    pub fn every_action(
        &self,
        disk: impl AsRef<Path>,
        source: impl AsRef<Path>,
    ) -> [(&'static str, Call<'_>); 10] {
        let source = source.as_ref();
        let snap = |action| (action, self.snap(action, source, "raw", 0));
        [
            ("cp", self.cp(&disk)),
            ("mkfs", self.mkfs("raw", "1")),
            ("clone", self.clone_of(source, "raw")),
            ("stat", self.stat(&disk)),
            snap("snap_revert"),
            snap("snap_flatten"),
            snap("snap_delete"),
            ("monitor", self.monitor()),
            ("export", self.export(source, "raw")),
            ("rm", self.rm(source)),
        ]
    }
}

/// `/var/tmp`, or what `FERROSTORE_TEST_DIR` says: there tests run on a file system that can't be made for
/// each of them, such as one of a server.
fn directory_of_clouds() -> PathBuf {
    std::env::var_os("FERROSTORE_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

impl Default for Cloud {
    fn default() -> Self {
        Self::new()
    }
}
