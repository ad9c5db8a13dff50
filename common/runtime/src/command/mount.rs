//! Mounting the NFS exports that datastores lie on.

use super::output::LONGEST_REASON;
use super::{CommandError, find, prepared};
use crate::process;
use crate::sys::ChildLimits;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The package with `mount.nfs`.
const PACKAGE: &str = "nfs-common (Debian, Ubuntu) or nfs-utils (RHEL and kin)";

/// How often a program is looked at that should end by itself.
const PAUSE: Duration = Duration::from_millis(10);

/// Mounts the NFS export `source` (`host:/path`) on `directory` with `options`, unless they are empty; through
/// `sudo -n` where the driver does not run as root.
///
/// # Errors
/// Where a program is missing, it fails, or it is not done at `until`.
pub fn mount_nfs(
    source: &OsStr,
    directory: &Path,
    options: &str,
    until: Instant,
) -> Result<(), CommandError> {
    find("mount.nfs", PACKAGE)?;
    let mut program = find("mount", "mount")?;
    let mut arguments: Vec<OsString> = vec!["-t".into(), "nfs".into()];
    if !options.is_empty() {
        arguments.extend(["-o".into(), options.into()]);
    }
    arguments.extend([source.to_owned(), directory.into()]);
    if !nix::unistd::geteuid().is_root() {
        arguments.splice(0..0, ["-n".into(), program.into()]);
        program = find("sudo", "sudo")?;
    }
    run_until(program, arguments, until)
}

/// Runs a program that has nothing to say on success.
fn run_until(
    program: PathBuf,
    arguments: Vec<OsString>,
    until: Instant,
) -> Result<(), CommandError> {
    let started = Instant::now();
    let mut command = prepared(&program, &arguments, ChildLimits::default());
    // A group of its own, so that what it starts can be stopped with it.
    command.process_group(0);
    let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
    let mut child = process::spawn(&mut command).map_err(not_started)?;
    let reason = collect_reason(&mut child);
    let status = loop {
        match process::try_wait(&mut child).map_err(not_started)? {
            Some(status) => break status,
            None if Instant::now() < until => std::thread::sleep(PAUSE),
            None => {
                // Through sudo it is root's and can't be stopped: then it is left behind.
                process::kill_child(child.id());
                let seconds = started.elapsed().as_secs();
                return Err(CommandError::TimedOut { program, seconds });
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    // What it leaves running may hold its standard error open.
    let stderr = reason.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    Err(CommandError::Failed { program, arguments, status, stderr })
}

/// Reads standard error to its end beside the program.
fn collect_reason(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.take(LONGEST_REASON).read_to_end(&mut text);
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(program: &str, arguments: &[&str], timeout: Duration) -> Result<(), CommandError> {
        let program = find(program, "coreutils").unwrap();
        run_until(program, arguments.iter().map(Into::into).collect(), Instant::now() + timeout)
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped_and_named() {
        let error = run("sleep", &["1000"], Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.starts_with("sleep timed out after"), "{error}");
    }

    #[test]
    fn a_program_that_fails_gives_its_reason() {
        run("true", &[], Duration::from_secs(60)).unwrap();
        let error = run("ls", &["--", "/no such"], Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
