//! A conversation with a program on another host, by ssh.

use super::CommandError;
use super::remote::{quoted, ssh};
use crate::process;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};

/// The program, as it is reached through the system's ssh. Dropped, the connection ends.
#[derive(Debug)]
pub struct Session {
    child: Child,
    /// What goes to its standard input. A socket, so that another thread can end it at any time.
    pub input: UnixStream,
    /// What comes from its standard output, until taken.
    pub output: Option<ChildStdout>,
    /// What comes from its standard error, and ssh's own, until taken.
    pub errors: Option<ChildStderr>,
}

/// Has the user's shell on `host` (`[user@]host`) run `script`, a constant text without single quotes,
/// with `/bin/sh`. Nothing else goes into the command line.
///
/// The connection is made with the system's ssh and its configuration; it never asks anything.
///
/// # Errors
/// Where ssh can't be started. What goes wrong later is told by its standard error and exit status.
pub fn ssh_script(host: &str, script: &'static str) -> Result<Session, CommandError> {
    let remote = [b"exec /bin/sh -c ", &*quoted(script.as_bytes())].concat();
    let (program, _, mut command) = ssh(host, remote)?;
    let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
    let (input, far_end) = UnixStream::pair().map_err(not_started)?;
    command.stdin(Stdio::from(OwnedFd::from(far_end)));
    // A group of its own: a signal for the driver's group must not end the connection before the
    // driver has said so to the other side.
    command.process_group(0);
    let mut child = process::spawn(&mut command).map_err(not_started)?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    Ok(Session { child, input, output, errors })
}

impl Session {
    /// Waits for the end of ssh.
    ///
    /// # Errors
    /// As `waitpid(2)`.
    pub fn wait(&mut self) -> std::io::Result<ExitStatus> {
        process::wait(&mut self.child)
    }

    /// Whether ssh has ended, and how.
    ///
    /// # Errors
    /// As `waitpid(2)`.
    pub fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        process::try_wait(&mut self.child)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        process::kill_child(self.child.id());
        let _ = self.wait();
    }
}
