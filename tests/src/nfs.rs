//! An NFS server, in the virtual machine.

use crate::{Call, Cloud, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

/// What the server exports; each datastore gets a folder in it.
const EXPORTS: &str = "/srv/nfs";

/// How an export is exported that is a file system of its own. No two of them are there at once.
const OWN_FILE_SYSTEM: &str = "rw,sync,no_subtree_check,insecure,fsid=7,no_root_squash";

/// For the first that needs the server.
static START: Once = Once::new();

/// A front-end whose datastore asks for an export of the virtual machine's own server.
#[derive(Debug)]
pub struct NfsCloud {
    /// The front-end.
    pub cloud: Cloud,
    export: PathBuf,
    version: String,
    options: String,
}

impl NfsCloud {
    /// The versions of the protocol that are tried.
    pub const VERSIONS: [&str; 2] = ["3", "4.2"];

    /// Starts the server, the first time. Nothing is mounted yet.
    pub fn new(version: &str) -> Self {
        assert!(crate::is_virtual_machine(), "the NFS server is for the virtual machine");
        START.call_once(|| {
            run(concat!(env!("CARGO_MANIFEST_DIR"), "/vm/nfs-server"), [""; 0]);
        });
        let cloud = Cloud::new();
        let name = cloud.root().parent().and_then(Path::file_name).expect("a name of its own");
        let export = Path::new(EXPORTS).join(name);
        fs::create_dir(&export).unwrap();
        let options = format!("vers={version}");
        Self { cloud, export, version: version.to_owned(), options }
    }

    /// With an export that is a file system of its own, of `size` bytes, mounted by a driver.
    pub fn small(version: &str, size: u64) -> Self {
        let nfs = Self::new(version);
        let export = nfs.path_on_server();
        let file = format!("{export}.disk");
        fs::File::create(&file).unwrap().set_len(size).unwrap();
        run("mkfs.ext4", ["-q", "-F", "-m", "0", &file]);
        run("mount", ["-o", "loop", &file, &export]);
        run("exportfs", ["-o", OWN_FILE_SYSTEM, &format!("127.0.0.1:{export}")]);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        nfs
    }

    fn path_on_server(&self) -> String {
        self.export.to_str().expect("text").to_owned()
    }

    /// With the datastore mounted, by a driver.
    pub fn mounted(version: &str) -> Self {
        let nfs = Self::new(version);
        nfs.on(nfs.cloud.monitor()).run().succeeds();
        nfs
    }

    /// Another front-end with the same export, which shares no cache with this one.
    pub fn elsewhere(&self) -> Self {
        let version = self.version.clone();
        let options = format!("{},nosharecache", self.options);
        let other = Self { cloud: Cloud::new(), export: self.export.clone(), version, options };
        other.on(other.cloud.monitor()).run().succeeds();
        other
    }

    /// With more options, a comma before each.
    pub fn with_options(mut self, more: &str) -> Self {
        self.options.push_str(more);
        self
    }

    /// The folder on the server.
    pub fn export(&self) -> &Path {
        &self.export
    }

    /// The path of the export (or of another folder of the server) as a client names it: with NFS 4 it begins below
    /// what the server exports.
    pub fn path(&self, folder: &Path) -> String {
        let below = folder.strip_prefix(EXPORTS).expect("a folder of the server");
        let root = if self.version.starts_with('4') { "/" } else { EXPORTS };
        Path::new(root).join(below).display().to_string()
    }

    /// The call for a datastore that asks for the export.
    pub fn on<'a>(&self, call: Call<'a>) -> Call<'a> {
        call.set("DATASTORE/TEMPLATE/NFS_AUTO_ENABLE", "yes")
            .set("DATASTORE/TEMPLATE/NFS_AUTO_HOST", "127.0.0.1")
            .set("DATASTORE/TEMPLATE/NFS_AUTO_PATH", self.path(&self.export))
            .set("DATASTORE/TEMPLATE/NFS_AUTO_OPTS", &self.options)
    }

    /// How often the export is mounted on the datastore's directory, and with which options.
    pub fn mounts(&self) -> Vec<String> {
        let place = self.cloud.datastore().display().to_string();
        fs::read_to_string("/proc/mounts")
            .unwrap()
            .lines()
            .filter(|line| line.split(' ').nth(1) == Some(&place))
            .map(str::to_owned)
            .collect()
    }

    /// Unmounts the datastore.
    pub fn unmount(&self) {
        run("umount", [self.cloud.datastore()]);
    }

    /// Stops the server from answering.
    pub fn stop_server() {
        run("rpc.nfsd", ["0"]);
    }

    /// Has the server answer again, after a stop.
    pub fn start_server() {
        run("rpc.nfsd", ["-H", "127.0.0.1", "4"]);
    }
}

impl Drop for NfsCloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = Command::new("rpc.nfsd").args(["-H", "127.0.0.1", "4"]).status();
        }
        let mut unmount = Command::new("umount");
        let _ = unmount.arg("-l").arg(self.cloud.datastore()).stderr(Stdio::null()).status();
        let file = format!("{}.disk", self.path_on_server());
        if fs::exists(&file).unwrap_or(false) {
            let export = self.path_on_server();
            let _ = Command::new("exportfs").args(["-u", &format!("127.0.0.1:{export}")]).status();
            let _ = Command::new("exportfs").arg("-f").status();
            let _ = Command::new("umount").args(["-l", &export]).status();
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_dir_all(&self.export);
    }
}
