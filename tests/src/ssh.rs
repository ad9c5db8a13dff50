//! Another host that is reached by ssh: an sshd of our own on the loopback.

use crate::namespace::{client, furnish, server, sshd_config};
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A host by the name of `elsewhere`, until dropped. Its files are those of this machine.
///
/// ssh and sshd run in mount namespaces with a home directory of their own, which leaves the user's own keys alone.
/// Callers go there with `Call::under(host.neighbour())`.
#[derive(Debug)]
pub struct SshHost {
    directory: TempDir,
    sshd: Child,
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
        let ssh = furnish(root, shell);
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
            format!("ListenAddress 127.0.0.2:{port}\n{}", sshd_config(&ssh, &ssh.join("host_key"))),
        )
        .unwrap();
        let mut enter = server(root, None);
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
            let mut command = self.neighbour();
            command.extend(["ssh", "-o", "BatchMode=yes", "elsewhere", "true"].map(Into::into));
            let output = Command::new(&command[0]).args(&command[1..]).output().expect("unshare");
            if output.status.success() {
                return;
            }
            let log = fs::read_to_string(self.directory.path().join("sshd.log"));
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "sshd does not serve: {}{}",
                String::from_utf8_lossy(&output.stderr),
                log.unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The program (with arguments) under which a call reaches this host.
    pub fn neighbour(&self) -> Vec<OsString> {
        client(self.directory.path())
    }

    /// Its home directory, where relative paths begin.
    pub fn home(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }
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
