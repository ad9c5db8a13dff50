//! Two virtual machines with one disk between them: hosts that share a volume group, reached by ssh.

use crate::namespace::{client, furnish, sshd_config};
use crate::{Call, Cloud};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vm");
/// A boot takes about ten seconds where nothing else runs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Hosts `machine1` and `machine2`, with the group `vg-one-104` on their disk, until dropped. This
/// machine is their front-end.
#[derive(Debug)]
pub struct Machines {
    machines: Vec<Child>,
    directory: TempDir,
}

impl Machines {
    /// Boots them.
    pub fn new() -> Self {
        crate::vm::prepare();
        let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let root = directory.path();
        let ssh = furnish(root, "/bin/bash");
        fs::write(ssh.join("sshd_config"), sshd_config(&ssh, &ssh.join("host_key"))).unwrap();
        fs::File::create(root.join("disk")).unwrap().set_len(4 << 30).unwrap();
        let mut config = String::new();
        let mut machines = Vec::new();
        for name in ["machine1", "machine2"] {
            // Between its release here and the machine, another program could take the port: unlikely.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            writeln!(config, "Host {name}\n  HostName 127.0.0.1\n  Port {port}").unwrap();
            machines.push(boot(root, name, port));
        }
        config.push_str("Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n");
        fs::write(ssh.join("config"), config).unwrap();
        let machines = Self { machines, directory };
        for number in [1, 2] {
            machines.wait(number);
        }
        machines.on(1, "vgcreate -q -y vg-one-104 /dev/vda");
        machines
    }

    fn wait(&self, number: usize) {
        let start = Instant::now();
        while !self.ssh(number, "true").status.success() {
            let console =
                fs::read_to_string(self.directory.path().join(format!("machine{number}.log")));
            assert!(start.elapsed() < TIMEOUT, "machine{number} does not serve: {console:?}");
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn ssh(&self, number: usize, command: &str) -> Output {
        self.ssh_command(number, command).output().expect("unshare can be started")
    }

    /// Starts a command on one of them.
    pub fn start_on(&self, number: usize, command: &str) -> Child {
        self.ssh_command(number, command).spawn().expect("unshare can be started")
    }

    fn ssh_command(&self, number: usize, command: &str) -> Command {
        let mut words = client(self.directory.path());
        let host = format!("machine{number}");
        // An emulated machine takes seconds for a connection: all that the test itself does there shares one.
        let control = format!("ControlPath={}/{host}.control", self.directory.path().display());
        let options = ["BatchMode=yes", "ControlMaster=auto", "ControlPersist=yes", &control];
        words.push("ssh".into());
        words.extend(options.iter().flat_map(|option| ["-o", option]).map(OsString::from));
        words.extend([&host, command].map(OsString::from));
        let mut ssh = Command::new(&words[0]);
        ssh.args(&words[1..]);
        ssh
    }

    /// Runs a command on one of them, which must succeed; what it prints.
    pub fn on(&self, number: usize, command: &str) -> String {
        let output = self.ssh(number, command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "machine{number}: {command}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A call that both may work on: the image's number chooses one.
    pub fn call<'c>(&self, cloud: &'c Cloud, action: &str, id: u32) -> Call<'c> {
        let call = cloud
            .call(action)
            .as_released()
            .under(client(self.directory.path()))
            .set("DATASTORE/DS_MAD", "lvm")
            .set("DATASTORE/TM_MAD", "lvm")
            .set("DATASTORE/TEMPLATE/BRIDGE_LIST", "machine2 machine1");
        if action == "monitor" { call } else { call.set_escaped("IMAGE/ID", id.to_string()) }
    }

    /// Name, state and tags of every volume as a machine sees them.
    pub fn volumes(&self, number: usize) -> Vec<String> {
        let text =
            self.on(number, "lvs --noheadings --separator : -o lv_name,lv_attr,lv_tags vg-one-104");
        let mut lines: Vec<_> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    }

    /// The beginning of a volume.
    pub fn content(&self, number: usize, volume: &str, length: usize) -> String {
        self.on(
            number,
            &format!(
                "lvchange -K -ay vg-one-104/{volume} && head -c {length} /dev/vg-one-104/{volume} | sha256sum && \
                 lvchange -an vg-one-104/{volume}"
            ),
        )
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
    }
}

impl Default for Machines {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts a machine, whose only work is sshd.
fn boot(root: &Path, name: &str, port: u16) -> Child {
    let log = fs::File::create(root.join(format!("{name}.log"))).unwrap();
    let serve = format!(
        "mkdir -p -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f {}/.ssh/sshd_config",
        root.display()
    );
    Command::new(Path::new(BED).join("run"))
        .args(["bash", "-c", &serve])
        .env("VM_NAME", name)
        .env("VM_DISK", root.join("disk"))
        .env("VM_FORWARD", format!("127.0.0.1:{port}"))
        .env("VM_TIMEOUT", "1800")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("tests/vm/run can be started")
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            // It ends its machine.
            let _ = Command::new("kill").arg(machine.id().to_string()).status();
            let _ = machine.wait();
        }
    }
}
