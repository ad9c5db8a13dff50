//! A Ceph cluster of one machine, which all tests of a test program share.

use crate::{Call, Cloud, Outcome, run};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ceph/cluster");
/// Where lock files of images are.
const LOCKS: &str = "/var/lock/one";

/// The cluster. Tests that break it have it alone.
static CLUSTER: RwLock<()> = RwLock::new(());

/// What keeps others from the cluster.
#[derive(Debug)]
#[allow(dead_code)] // held only
enum Share {
    WithOthers(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A front-end whose datastore 104 is a pool of its own in the cluster.
#[derive(Debug)]
pub struct Ceph {
    /// The front-end.
    pub cloud: Cloud,
    pool: String,
    conf: PathBuf,
    _share: Share,
}

/// The directory of the cluster, which is started for the first test, and ends with the test program.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let own = std::process::id();
        let directory = PathBuf::from(format!("/dev/shm/ferrostore-ceph.{own}"));
        let path = directory.to_str().unwrap();
        let port = 17000 + own % 8000;
        let up = |verb: &str, more: &str| {
            let mut command = Command::new(RECIPE);
            command.args([verb, path]).env("PORT", port.to_string());
            if !more.is_empty() {
                command.arg(more);
            }
            let status = command.stdin(Stdio::null()).status().expect("tests/ceph/cluster starts");
            assert!(status.success(), "tests/ceph/cluster {verb}: {status}");
        };
        up("up", "");
        up("guard", &own.to_string());
        directory
    })
}

impl Drop for Ceph {
    fn drop(&mut self) {
        // What is left to the next driver, which never comes.
        for lock in self.locks() {
            let _ = fs::remove_file(Path::new(LOCKS).join(lock));
        }
    }
}

impl Ceph {
    /// The datastore, beside those of other tests.
    pub fn new() -> Self {
        let guard = CLUSTER.read().unwrap_or_else(PoisonError::into_inner);
        Self::with(Share::WithOthers(guard))
    }

    /// As [`Self::new`], with image 5, which begins with "head", and its snapshot 0, which begins with "s0".
    pub fn with_snapshot() -> Self {
        let ceph = Self::new();
        ceph.image("one-5", "s0");
        ceph.take_snapshot("one-5", "0");
        ceph.write("one-5", "head");
        ceph
    }

    /// As [`Self::with_snapshot`], with snapshot 1 as well, which begins with "s1".
    pub fn with_two_snapshots() -> Self {
        let ceph = Self::new();
        ceph.image("one-5", "s0");
        ceph.take_snapshot("one-5", "0");
        ceph.write("one-5", "s1");
        ceph.take_snapshot("one-5", "1");
        ceph.write("one-5", "head");
        ceph
    }

    /// The datastore, while no other test uses the cluster.
    pub fn alone() -> Self {
        let guard = CLUSTER.write().unwrap_or_else(PoisonError::into_inner);
        Self::with(Share::Alone(guard))
    }

    fn with(share: Share) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = directory();
        // Lock files of all clusters of a machine lie in one directory.
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let pool = format!("pool{number}-{}", std::process::id());
        let cloud = Cloud::new();
        // A file of its own, by which calls of programs can be told from those of other tests.
        let conf = cloud.root().join("ceph.conf");
        fs::copy(directory.join("ceph.conf"), &conf).unwrap();
        let ceph = Self { cloud, pool, conf, _share: share };
        ceph.configure("OSD_TIMEOUT=10\n");
        // All tests can be run without librbd.
        if let Ok(value) = std::env::var("FERROSTORE_LIBRBD") {
            ceph.use_librbd(&value);
        }
        ceph.make_pool(&ceph.pool);
        ceph
    }

    /// Makes a pool.
    pub fn make_pool(&self, name: &str) {
        self.ceph(["osd", "pool", "create", name, "1", "1"]);
        self.ceph(["osd", "pool", "application", "enable", name, "rbd"]);
        self.rbd(["pool", "init", name]);
    }

    /// Makes the pool "ec", which is erasure-coded, on OSDs of its own.
    pub fn make_erasure_coded_pool(&self) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| drop(run(RECIPE, ["grow", directory().to_str().unwrap()])));
    }

    /// The datastore's pool.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// The configuration that reaches the cluster.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// A configuration that reaches the cluster from bridge hosts too, which have another `/var/tmp`.
    pub fn conf_everywhere(&self) -> PathBuf {
        directory().join("ceph.conf")
    }

    /// Writes the driver's configuration file.
    pub fn configure(&self, text: &str) {
        let path = self.configuration();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn configuration(&self) -> PathBuf {
        self.cloud.one_location().join("var/remotes/etc/datastore/ceph/ceph.conf")
    }

    /// Sets LIBRBD in the driver's configuration file.
    pub fn use_librbd(&self, value: &str) {
        let text = fs::read_to_string(self.configuration()).unwrap_or_default();
        let mut lines: Vec<&str> =
            text.lines().filter(|line| !line.starts_with("LIBRBD=")).collect();
        let own = format!("LIBRBD={value}");
        lines.push(&own);
        self.configure(&(lines.join("\n") + "\n"));
    }

    /// Stops or starts one of the cluster's daemons: `osd`, `mgr` or `mon`.
    pub fn daemon(&self, verb: &str, which: &str) {
        let directory = directory().to_str().unwrap();
        run(RECIPE, [verb, directory, which]);
    }

    fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(format!("/usr/bin/{program}"));
        command.arg("--conf").arg(&self.conf).args(arguments).env_remove("CEPH_CONF");
        command
    }

    /// What a program of Ceph prints, which must succeed.
    #[track_caller]
    fn output(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        const SIGABRT: i32 = 6;
        let mut output = self.program(program, arguments).output().unwrap();
        // Ceph 16 now and then aborts when a query has ended ("io_context_pool", "Invalid argument").
        if output.status.signal() == Some(SIGABRT) {
            output = self.program(program, arguments).output().unwrap();
        }
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// What `rbd` prints.
    #[track_caller]
    pub fn rbd<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let arguments: Vec<&str> = arguments.into_iter().collect();
        String::from_utf8_lossy(&self.output("rbd", &arguments)).into_owned()
    }

    /// What `ceph` prints.
    #[track_caller]
    pub fn ceph<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let arguments: Vec<&str> = arguments.into_iter().collect();
        String::from_utf8_lossy(&self.output("ceph", &arguments)).into_owned()
    }

    /// What `rados` prints, in the datastore's pool.
    #[track_caller]
    pub fn rados<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let own = ["--pool", self.pool.as_str()];
        let all: Vec<&str> = own.into_iter().chain(arguments).collect();
        String::from_utf8_lossy(&self.output("rados", &all)).into_owned()
    }

    /// `<pool>/<name>`.
    pub fn spec(&self, name: &str) -> String {
        format!("{}/{name}", self.pool)
    }

    /// A call for image `id`.
    pub fn call(&self, action: &str, id: u32) -> Call<'_> {
        let call = self
            .cloud
            .call(action)
            .set("DATASTORE/DS_MAD", "ceph")
            .set("DATASTORE/TM_MAD", "ceph")
            .set_escaped("DATASTORE/DISK_TYPE", "3")
            .set("DATASTORE/TEMPLATE/POOL_NAME", &self.pool)
            .set("DATASTORE/TEMPLATE/CEPH_CONF", self.conf.to_str().unwrap());
        if action == "monitor" { call } else { call.set_escaped("IMAGE/ID", id.to_string()) }
    }

    /// Registers the file `path`.
    pub fn cp(&self, id: u32, path: impl AsRef<Path>) -> Call<'_> {
        self.call("cp", id).path(path).set_escaped("IMAGE/SIZE", "102400")
    }

    /// Makes an image of `size` MiB.
    pub fn mkfs(&self, id: u32, format: &str, size: u64) -> Call<'_> {
        self.call("mkfs", id)
            .set("IMAGE/TYPE", "2")
            .set("IMAGE/FORMAT", format)
            .set_escaped("IMAGE/SIZE", size.to_string())
    }

    /// Clones the image with the SOURCE `source`.
    pub fn clone_of(&self, id: u32, source: &str) -> Call<'_> {
        self.call("clone", id).set("IMAGE/PATH", source).set("IMAGE/FORMAT", "raw")
    }

    /// A call for an image that is there.
    pub fn on_image(&self, action: &str, id: u32) -> Call<'_> {
        self.call(action, id)
            .set("IMAGE/SOURCE", self.spec(&format!("one-{id}")))
            .set("IMAGE/FORMAT", "raw")
    }

    /// `snap_revert`, `snap_flatten` or `snap_delete`.
    pub fn snap(&self, action: &str, id: u32, snapshot: u32) -> Call<'_> {
        self.on_image(action, id)
            .set_escaped("IMAGE/PERSISTENT", "1")
            .set_escaped("IMAGE/TARGET_SNAPSHOT", snapshot.to_string())
    }

    /// An image of 8 MiB that begins with `text`, made without any driver.
    pub fn image(&self, name: &str, text: &str) {
        self.rbd(["create", "--size", "8M", &self.spec(name)]);
        self.write(name, text);
    }

    /// Takes snapshot `name` of a volume as the transfer drivers do.
    pub fn take_snapshot(&self, volume: &str, name: &str) {
        let spec = format!("{}@{name}", self.spec(volume));
        self.rbd(["snap", "create", "--no-progress", &spec]);
        self.rbd(["snap", "protect", &spec]);
    }

    /// Clones a snapshot, as transfer drivers do for virtual machines.
    pub fn clone_snapshot(&self, volume: &str, snapshot: &str, clone: &str) {
        self.rbd(["clone", &format!("{}@{snapshot}", self.spec(volume)), &self.spec(clone)]);
    }

    /// Writes `text` to the beginning of an image.
    pub fn write(&self, name: &str, text: &str) {
        self.write_at(name, text.as_bytes(), 0);
    }

    /// Writes bytes into an image.
    pub fn write_at(&self, name: &str, bytes: &[u8], offset: u64) {
        let mut child = self
            .program("rbd", &["import-diff", "--no-progress", "-", &self.spec(name)])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut diff = b"rbd diff v1\nw".to_vec();
        diff.extend(offset.to_le_bytes());
        diff.extend((bytes.len() as u64).to_le_bytes());
        diff.extend(bytes);
        diff.push(b'e');
        child.stdin.take().unwrap().write_all(&diff).unwrap();
        assert!(child.wait().unwrap().success(), "{name} can be written");
    }

    /// All bytes of an image or a snapshot.
    #[track_caller]
    pub fn content(&self, name: &str) -> Vec<u8> {
        self.output("rbd", &["export", "--no-progress", &self.spec(name), "-"])
    }

    /// The first four bytes of an image or a snapshot, as text.
    #[track_caller]
    pub fn head(&self, name: &str) -> String {
        let content = self.content(name);
        String::from_utf8_lossy(&content[..4]).trim_end_matches('\0').to_owned()
    }

    /// Names of all images in the pool.
    #[track_caller]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.rbd(["ls", &self.pool]).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// All images in the pool as `<name> [<snapshots>] < <parent>`; a star follows a protected snapshot.
    #[track_caller]
    pub fn layout(&self) -> Vec<String> {
        self.names().iter().map(|name| self.described(name)).collect()
    }

    fn described(&self, name: &str) -> String {
        let spec = self.spec(name);
        let json = |arguments: &[&str]| -> serde_json::Value {
            serde_json::from_slice(&self.output("rbd", arguments)).unwrap()
        };
        let snapshots: Vec<String> = json(&["snap", "ls", "--format", "json", &spec])
            .as_array()
            .unwrap()
            .iter()
            .map(|snapshot| {
                let protected = snapshot["protected"].as_str() == Some("true");
                format!(
                    "{}{}",
                    snapshot["name"].as_str().unwrap(),
                    if protected { "*" } else { "" }
                )
            })
            .collect();
        let parent = json(&["info", "--format", "json", &spec])["parent"].clone();
        let mut text = format!("{name} [{}]", snapshots.join(" "));
        if let (Some(image), Some(snapshot)) =
            (parent["image"].as_str(), parent["snapshot"].as_str())
        {
            text.extend([" < ", image, "@", snapshot]);
        }
        text
    }

    /// Checks that nothing in the pool is unfinished, and nothing locked.
    #[track_caller]
    pub fn is_at_rest(&self) {
        let left: Vec<String> =
            self.names().into_iter().filter(|name| name.contains(".ferrostore")).collect();
        assert_eq!(left, [""; 0], "images are unfinished");
        assert_eq!(self.locks(), [""; 0], "locks are left");
    }

    /// Names of the lock files of images in the pool.
    pub fn locks(&self) -> Vec<String> {
        let prefix = format!("ferrostore-ceph-{}-", self.pool);
        let entries = fs::read_dir(LOCKS).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }

    /// Makes a user of the cluster with these capabilities; the file with its key.
    pub fn user(&self, name: &str, monitors: &str, osds: &str) -> PathBuf {
        let client = format!("client.{name}");
        self.ceph(["auth", "get-or-create", &client, "mon", monitors, "osd", osds]);
        let key = self.ceph(["auth", "get-key", &client]);
        let file = self.cloud.root().join(format!("{name}.key"));
        fs::write(&file, key.trim()).unwrap();
        file
    }

    /// Keeps an image open, as a virtual machine does, until what is returned is dropped.
    pub fn open(&self, name: &str) -> Open {
        let mut child = self
            .program("rbd", &["import-diff", "--no-progress", "-", &self.spec(name)])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has read so much once it has the image open.
        child.stdin.as_mut().unwrap().write_all(b"rbd diff v1\n").unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !self.rbd(["status", &self.spec(name)]).contains("watcher=") {
            assert!(Instant::now() < until, "{name} is not opened");
            thread::sleep(Duration::from_millis(50));
        }
        Open(child)
    }

    /// Waits until no client has an image open. One that was killed counts for half a minute.
    pub fn settle(&self) {
        let until = Instant::now() + Duration::from_secs(90);
        for name in self.names() {
            loop {
                let output = self.program("rbd", &["status", &self.spec(&name)]).output().unwrap();
                if !String::from_utf8_lossy(&output.stdout).contains("watcher=") {
                    break;
                }
                assert!(Instant::now() < until, "{name} stays open");
                thread::sleep(Duration::from_millis(200));
            }
        }
    }

    /// Runs a call, and how often it starts each program.
    pub fn counted(&self, call: Call) -> (Outcome, Vec<String>) {
        let log = self.cloud.root().join("programs");
        let log = log.to_str().unwrap();
        // Successful calls (-z), each on one line although two programs may start at once.
        let outcome =
            call.under(["strace", "-f", "-z", "-qq", "-e", "trace=execve", "-o", log]).run();
        let text = fs::read_to_string(log).unwrap();
        let started = text
            .lines()
            .filter(|line| line.ends_with("= 0"))
            .filter_map(|line| line.split("execve(\"").nth(1)?.split('"').next())
            .map(|path| path.rsplit('/').next().unwrap().to_owned())
            .skip(1)
            .collect();
        (outcome, started)
    }

    /// Runs a call whose driver is killed when it waits for its `step`th program, which may go on; whether it
    /// lived long enough to reply, since it waits for fewer.
    pub fn killed_at(&self, step: usize, call: Call) -> bool {
        self.killed_in("wait4,waitid", step, call)
    }

    /// As [`Self::killed_at`], when the driver makes one of these system calls for the `step`th time.
    pub fn killed_in(&self, calls: &str, step: usize, call: Call) -> bool {
        let inject = format!("inject={calls}:signal=KILL:when={step}");
        let trace = format!("trace={calls}");
        let outcome =
            call.under(["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]).run();
        outcome.status.code() == Some(0) || !outcome.stdout.is_empty()
    }
}

impl Default for Ceph {
    fn default() -> Self {
        Self::new()
    }
}

/// An image that is open.
#[derive(Debug)]
pub struct Open(std::process::Child);

impl Drop for Open {
    fn drop(&mut self) {
        // The end of its input ends it, as a virtual machine ends: the cluster knows at once.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
