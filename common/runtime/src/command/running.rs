//! A program of Ceph that runs: its deadline, its end, and what it said.

use super::CommandError;
use super::cluster_error::ClusterError;
use super::output::LONGEST_REASON;
use crate::process;
use crate::text::one_line;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So much of a report is read at most, bytes: the names of a million images fit in.
pub(super) const LONGEST_REPORT: u64 = 64 << 20;

/// Whether a program may be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It ends with its driver.
    WithDriver,
    /// It comes to its end whatever becomes of the driver, and keeps the driver's lock until then.
    ByItself,
}

/// A program of Ceph that runs.
#[derive(Debug)]
pub(super) struct Running {
    command: String,
    child: Child,
    ending: Ending,
    /// Set before the program is reaped: from then on its number may be another one's.
    ended: Arc<Mutex<bool>>,
    killed: Arc<AtomicBool>,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts `command`, which is called `name` in errors, in a process group of its own. What it prints goes to
    /// `output`, or else to memory.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        ending: Ending,
        input: Stdio,
        output: Option<Stdio>,
    ) -> Result<Self, CommandError> {
        let program = PathBuf::from(command.get_program());
        let start = || -> io::Result<Self> {
            let memory = || memfd_create("output", MFdFlags::MFD_CLOEXEC).map(File::from);
            let (stdout, stderr) = (memory()?, memory()?);
            command.process_group(0).stdin(input);
            command.stderr(stderr.try_clone()?);
            command.stdout(output.map_or_else(|| stdout.try_clone().map(Stdio::from), Ok)?);
            let child = match ending {
                Ending::WithDriver => process::spawn(&mut command),
                Ending::ByItself => command.spawn(),
            }?;
            let (ended, killed) = (Arc::default(), Arc::default());
            Ok(Self { command: one_line(name), child, ending, ended, killed, stdout, stderr })
        };
        start().map_err(|source| CommandError::NotStarted { program, source })
    }

    /// Leaves the program to itself: it is neither waited for nor killed.
    pub(super) fn forget(self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// The number of its process.
    pub(super) fn id(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Kills the program once `limit` is over.
    pub(super) fn limited(&self, limit: Duration) {
        let until = Instant::now() + limit;
        self.watched(move || Instant::now() >= until);
    }

    /// Kills the program once `late` says so.
    pub(super) fn watched(&self, mut late: impl FnMut() -> bool + Send + 'static) {
        let (ended, killed) = (Arc::clone(&self.ended), Arc::clone(&self.killed));
        let group = self.id();
        let watcher = std::thread::Builder::new().stack_size(64 << 10);
        // Without the thread, librados' own time-outs remain.
        let _ = watcher.spawn(move || {
            loop {
                let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                if *ended {
                    return;
                }
                if late() {
                    killed.store(true, Ordering::SeqCst);
                    let _ = killpg(group, Signal::SIGKILL);
                    return;
                }
                drop(ended);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    }

    /// Waits for the end of the program; what it printed.
    pub(super) fn wait(mut self, limit: Duration) -> Result<String, ClusterError> {
        let status = self.reap().map_err(|source| CommandError::NotStarted {
            program: PathBuf::from(&self.command),
            source,
        })?;
        let command = std::mem::take(&mut self.command);
        if self.killed.load(Ordering::SeqCst) {
            return Err(ClusterError::TimedOut { command, seconds: limit.as_secs() });
        }
        if status.success() {
            return Ok(contents(&self.stdout, LONGEST_REPORT));
        }
        let reason = reason(&contents(&self.stderr, LONGEST_REASON));
        Err(ClusterError::Failed { command, code: code_of(status), reason })
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        process::wait_unreaped(&self.child);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        match self.ending {
            Ending::WithDriver => process::wait(&mut self.child),
            Ending::ByItself => self.child.wait(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !*self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = killpg(self.id(), Signal::SIGKILL);
            let _ = self.reap();
        }
    }
}

/// `rbd` exits with the number of an error of the system; one that was killed has none.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or(Errno::EINTR as i32)
}

fn contents(mut file: &File, limit: u64) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(limit).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What of a program's standard error says why it failed: no progress, no remarks on keyrings that are not
/// needed, no time stamps.
fn reason(stderr: &str) -> String {
    const LONGEST: usize = 300;
    let mut lines: Vec<&str> = Vec::new();
    for line in stderr.split(['\n', '\r']).map(str::trim) {
        let line = without_stamp(line);
        let noise = line.is_empty()
            || line.contains("% complete...")
            || line.contains("unable to find a keyring")
            || line.contains("no keyring found at")
            || line.starts_with("AuthRegistry(");
        if !noise && !lines.contains(&line) {
            lines.push(line);
        }
    }
    // librbd says which pool is missing, `rbd` only that something is.
    let data_pool = lines.iter().find_map(|line| Some(&line[line.find("data pool ")?..]));
    let mut own: Vec<&str> =
        lines.iter().copied().filter(|line| line.starts_with("rbd: ")).collect();
    own.extend(data_pool);
    let text = one_line(&if own.is_empty() { lines } else { own }.join("; "));
    match text.char_indices().nth(LONGEST) {
        _ if text.is_empty() => "it printed no reason".to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A line of Ceph's log without its time, thread and level.
fn without_stamp(line: &str) -> &str {
    let mut words = line.splitn(4, ' ').filter(|word| !word.is_empty());
    let (Some(time), Some(_), Some(_)) = (words.next(), words.next(), words.next()) else {
        return line;
    };
    let is_time = time.len() > 20
        && time.as_bytes().get(10) == Some(&b'T')
        && time.starts_with(|c: char| c.is_ascii_digit());
    let level = line.find(" -1 ").map(|at| at + 4).or_else(|| line.find("  0 ").map(|at| at + 4));
    match level {
        Some(at) if is_time => line[at..].trim(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failure_is_told_without_keyrings_progress_and_times() {
        let stderr = "2026-11-28T17:14:10.150+0000 7fef9a29a380 -1 auth: unable to find a keyring on /x: (2) No such file\n\
            2026-11-28T17:14:10.150+0000 7fef9a29a380 -1 AuthRegistry(0x55) no keyring found at /x, disabling cephx\n\
        \rRemoving image: 0% complete...failed.\n\
            rbd: image has snapshots - these must be deleted\n";
        assert_eq!(reason(stderr), "rbd: image has snapshots - these must be deleted");
        let stamped =
            "2026-11-28T17:14:05.878+0000 7f62e9e376c0 -1 librbd: parent must be protected\n";
        assert_eq!(reason(stamped), "librbd: parent must be protected");
        let pool = "2026-11-28T18:15:39.266+0000 7f5a -1 librbd: 0x55 check: data pool x does not exist\n\
            rbd: create error: (2) No such file\n";
        assert_eq!(reason(pool), "rbd: create error: (2) No such file; data pool x does not exist");
        assert_eq!(reason("\n"), "it printed no reason");
        assert_eq!(reason("plain words of another kind"), "plain words of another kind");
    }
}
