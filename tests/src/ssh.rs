//! Another host that is reached by ssh: an sshd of our own on the loopback.

use crate::run;
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

/// A host by the name of `elsewhere`, until dropped. Its files are those of this machine.
///
/// ssh and sshd find keys and configuration in the home directory that the password file names. So
/// both run where that file is another one: in a mount namespace of their own, which leaves the
/// user's own keys alone. Callers go there with `Call::under(host.neighbour())`.
#[derive(Debug)]
pub struct SshHost {
    directory: TempDir,
    sshd: Child,
}

/// Mounts the two files, gives sshd the directory that it insists on, and runs the rest.
const ENTER: &str = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/shadow\" /etc/shadow && \
    if [ \"$2\" = sshd ]; then mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd; fi && \
    shift 2 && exec \"$@\"";

/// Makes `.ssh` in the home directory `root`: a key that may log in there, and the host's own key.
pub(crate) fn ssh_directory(root: &Path) -> PathBuf {
    let ssh = root.join(".ssh");
    fs::create_dir(&ssh).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["id_ed25519", "host_key"] {
        let path = ssh.join(name);
        run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
    }
    fs::copy(ssh.join("id_ed25519.pub"), ssh.join("authorized_keys")).unwrap();
    ssh
}

/// The configuration of an sshd for the keys in the directory `ssh`.
pub(crate) fn sshd_config(ssh: &Path) -> String {
    format!(
        "HostKey {0}/host_key\nPidFile none\nAuthorizedKeysFile {0}/authorized_keys\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         PermitRootLogin prohibit-password\nUseDNS no\nMaxStartups 100\n",
        ssh.display()
    )
}

impl SshHost {
    /// Starts it.
    pub fn new() -> Self {
        Self::with_shell("/bin/sh")
    }

    /// Starts it; who logs in there has this shell.
    pub fn with_shell(shell: &str) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let root = directory.path();
        let ssh = ssh_directory(root);
        let home = root.display();
        let passwd = format!(
            "root:x:0:0:root:{home}:{shell}\nsshd:x:65533:65534::/nonexistent:/usr/sbin/nologin\n"
        );
        fs::write(root.join("passwd"), passwd).unwrap();
        fs::write(root.join("shadow"), "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n").unwrap();
        // Between its release here and sshd, another program could take the port: unlikely.
        let port = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
        let key = fs::read_to_string(ssh.join("host_key.pub")).unwrap();
        fs::write(ssh.join("known_hosts"), format!("[127.0.0.2]:{port} {key}")).unwrap();
        fs::write(
            ssh.join("config"),
            format!(
                "Host elsewhere\n  HostName 127.0.0.2\n  Port {port}\n\
                 Host *\n  StrictHostKeyChecking yes\n"
            ),
        )
        .unwrap();
        fs::write(
            ssh.join("sshd_config"),
            format!("ListenAddress 127.0.0.2:{port}\n{}", sshd_config(&ssh)),
        )
        .unwrap();
        let mut enter = neighbour(root, "sshd");
        enter.extend(["/usr/sbin/sshd", "-D", "-e", "-f"].map(OsString::from));
        enter.push(ssh.join("sshd_config").into());
        let sshd = Command::new(&enter[0])
            .args(&enter[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(root.join("sshd.log")).unwrap())
            .process_group(0)
            .spawn()
            .expect("unshare can be started");
        let host = Self { directory, sshd };
        host.wait();
        host
    }

    fn wait(&self) {
        let start = Instant::now();
        loop {
            let mut command = neighbour(self.directory.path(), "ssh");
            command.extend(["ssh", "-o", "BatchMode=yes", "elsewhere", "true"].map(Into::into));
            let output = Command::new(&command[0]).args(&command[1..]).output().expect("unshare");
            if output.status.success() {
                return;
            }
            let log = fs::read_to_string(self.directory.path().join("sshd.log"));
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "sshd does not serve: {}{}",
                String::from_utf8_lossy(&output.stderr),
                log.unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The program (with arguments) under which a call reaches this host.
    pub fn neighbour(&self) -> Vec<OsString> {
        neighbour(self.directory.path(), "ssh")
    }

    /// Its home directory, where relative paths begin.
    pub fn home(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }
}

/// The program (with arguments) under which ssh finds its files below `root`.
pub(crate) fn neighbour(root: &Path, role: &str) -> Vec<OsString> {
    let words = ["unshare", "--mount", "/bin/sh", "-c", ENTER, "sh"].map(OsString::from);
    words.into_iter().chain([root.into(), role.into()]).collect()
}

impl Default for SshHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SshHost {
    fn drop(&mut self) {
        // exec all the way: the child is sshd itself.
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}
