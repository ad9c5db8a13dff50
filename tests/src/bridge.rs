//! Bridge hosts: several sshd of our own on the loopback, each with a mount namespace and a `/var/tmp`
//! (datastore, staging directory, drivers and all) of its own.

use crate::namespace::{client, furnish, key, server, sshd_config};
use crate::{ACTIONS, Call, Cloud, Disk, Listing, Mount, run, stripped};
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Hosts `host1`, `host2`, ... that have the storage of a [`Cloud`], until dropped.
///
/// Each has a copy of what the datastore held. The front-end does not have it any more.
#[derive(Debug)]
pub struct Bridges {
    // Fields drop in this order: the hosts before what they stand on.
    hosts: Vec<BridgeHost>,
    home: TempDir,
    storage: TempDir,
}

/// One of them.
#[derive(Debug)]
pub struct BridgeHost {
    name: String,
    sshd: Option<Child>,
    _disk: Mount,
    home: PathBuf,
    /// What `/var/tmp` is there.
    var_tmp: PathBuf,
    datastore: PathBuf,
}

impl Bridges {
    /// So many hosts for the storage of `cloud`, with drivers on them as `onehost sync` leaves them.
    pub fn of(cloud: &Cloud, count: u8) -> Self {
        let bridges = Self::without_drivers(cloud, count);
        for host in &bridges.hosts {
            host.install_drivers();
        }
        bridges
    }

    /// So many hosts for the storage of `cloud`, without drivers.
    pub fn without_drivers(cloud: &Cloud, count: u8) -> Self {
        // Not in /var/tmp, which is another one on the hosts.
        let home = tempfile::tempdir_in("/tmp").expect("/tmp is writable");
        let storage = tempfile::Builder::new()
            .prefix("ferrostore-bridge.")
            .tempdir_in("/var/tmp")
            .expect("/var/tmp is writable");
        let root = home.path();
        let ssh = furnish(root, "/bin/bash");
        fs::write(ssh.join("known_hosts"), "").unwrap();
        let hosts = (1..=count).map(|number| BridgeHost::new(cloud, number, root, storage.path()));
        let mut bridges = Self { hosts: hosts.collect(), home, storage };
        fs::remove_dir_all(cloud.datastore()).unwrap();
        bridges.configure("");
        for host in &mut bridges.hosts {
            host.start();
        }
        bridges
    }

    /// Writes the configuration of the front-end's ssh, with `more` in it for all hosts.
    pub fn configure(&self, more: &str) {
        let mut config = String::new();
        for host in &self.hosts {
            config += &fs::read_to_string(host.file("ssh_config")).unwrap();
        }
        config.push_str("Host *\n  StrictHostKeyChecking yes\n");
        config.push_str(more);
        fs::write(self.home.path().join(".ssh/config"), config).unwrap();
    }

    /// The host of this number, from 1.
    pub fn host(&self, number: usize) -> &BridgeHost {
        &self.hosts[number - 1]
    }

    /// As [`Self::host`], to stop or start it.
    pub fn host_mut(&mut self, number: usize) -> &mut BridgeHost {
        &mut self.hosts[number - 1]
    }

    /// What `BRIDGE_LIST` says of all of them.
    pub fn list(&self) -> String {
        let names: Vec<_> = self.hosts.iter().map(|host| host.name.as_str()).collect();
        names.join(" ")
    }

    /// A call in whose datastore all of them are bridge hosts, and that can reach them. What it does is
    /// looked for on the first.
    pub fn bridged<'c>(&self, call: Call<'c>) -> Call<'c> {
        self.reachable(call).set("DATASTORE/TEMPLATE/BRIDGE_LIST", self.list())
    }

    /// A call that can reach the hosts. What it does is looked for on the first.
    pub fn reachable<'c>(&self, call: Call<'c>) -> Call<'c> {
        call.as_released().under(self.neighbour()).looking_at(&self.hosts[0].datastore)
    }

    /// The program (with arguments) under which the hosts can be reached.
    pub fn neighbour(&self) -> Vec<OsString> {
        client(self.home.path())
    }

    /// The directory below which everything of all hosts is.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }

    /// ssh's directory of the front-end's user.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl BridgeHost {
    fn new(cloud: &Cloud, number: u8, home: &Path, storage: &Path) -> Self {
        let name = format!("host{number}");
        let var_tmp = storage.join(&name);
        fs::create_dir(&var_tmp).unwrap();
        let disk = Mount::new(Disk::Ext4(3 << 30), &var_tmp);
        fs::set_permissions(&var_tmp, fs::Permissions::from_mode(0o1777)).unwrap();
        let below = cloud.datastore();
        let below = below.strip_prefix("/var/tmp").expect("clouds are there");
        let datastore = var_tmp.join(below);
        fs::create_dir_all(datastore.parent().unwrap()).unwrap();
        run("cp", [OsString::from("-a"), cloud.datastore().into(), (&datastore).into()]);
        let host =
            Self { name, sshd: None, _disk: disk, home: home.to_path_buf(), var_tmp, datastore };
        key(&host.file("key"));
        let address = format!("127.0.0.{}", number + 1);
        // Between its release here and sshd, another program could take the port: unlikely.
        let port = TcpListener::bind((address.as_str(), 0)).unwrap().local_addr().unwrap().port();
        let public = fs::read_to_string(host.file("key.pub")).unwrap();
        let known = home.join(".ssh/known_hosts");
        let others = fs::read_to_string(&known).unwrap();
        fs::write(known, format!("{others}[{address}]:{port} {public}")).unwrap();
        fs::write(
            host.file("ssh_config"),
            format!("Host {}\n  HostName {address}\n  Port {port}\n", host.name),
        )
        .unwrap();
        fs::write(
            host.file("sshd_config"),
            format!(
                "ListenAddress {address}:{port}\n{}",
                sshd_config(&home.join(".ssh"), &host.file("key"))
            ),
        )
        .unwrap();
        host
    }

    /// A file beside the host's storage that is not part of it.
    fn file(&self, name: &str) -> PathBuf {
        self.home.join(format!("{}.{name}", self.name))
    }

    /// Its name, as `BRIDGE_LIST` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts its sshd.
    pub fn start(&mut self) {
        self.start_under(&[]);
    }

    /// Starts its sshd under another program.
    pub fn start_under(&mut self, wrapper: &[&str]) {
        let mut words = server(&self.home, Some(&self.var_tmp));
        words.extend(wrapper.iter().map(OsString::from));
        words.extend(["/usr/sbin/sshd", "-D", "-e", "-f"].map(OsString::from));
        words.push(self.file("sshd_config").into());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.file("log")).unwrap();
        let sshd = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("unshare can be started");
        self.sshd = Some(sshd);
        let start = Instant::now();
        while !self.run("true").status.success() {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "sshd does not serve: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops its sshd: connections are refused, those that stand go on.
    pub fn stop(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            // exec all the way: the child is sshd itself.
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
    }

    /// Runs a command on it, by ssh as the drivers do.
    pub fn run(&self, command: &str) -> std::process::Output {
        let mut words = client(&self.home);
        words.extend(["ssh", "-o", "BatchMode=yes", &self.name, command].map(Into::into));
        Command::new(&words[0]).args(&words[1..]).output().expect("unshare can be started")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// Its sshd that takes connections.
    pub fn listener(&self) -> Option<u32> {
        self.sshd.as_ref().map(Child::id)
    }

    /// Its processes of this name.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let Some(own) = self.sshd.as_ref().and_then(|sshd| namespace(sshd.id())) else {
            return Vec::new();
        };
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/comm"))
                .is_ok_and(|comm| comm.trim() == name)
        };
        processes.filter(is).filter(|&process| namespace(process).as_ref() == Some(&own)).collect()
    }

    /// Where a path that the host sees below `/var/tmp` is.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let below = path.as_ref().strip_prefix("/var/tmp").expect("a path below /var/tmp");
        self.var_tmp.join(below)
    }

    /// The datastore's directory, where it is.
    pub fn datastore(&self) -> &Path {
        &self.datastore
    }

    /// A picture of the datastore.
    pub fn listing(&self) -> Listing {
        Listing::of(&self.datastore)
    }

    /// Puts the drivers where `onehost sync` does.
    pub fn install_drivers(&self) {
        let directory = self.path("/var/tmp/one/datastore/fs");
        fs::create_dir_all(&directory).unwrap();
        for action in ACTIONS {
            run("cp", [stripped(action), directory.join(action)]);
        }
    }
}

impl Drop for BridgeHost {
    fn drop(&mut self) {
        self.stop();
    }
}
