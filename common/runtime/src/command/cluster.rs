//! A Ceph cluster, as the programs of the package `ceph-common` reach it: the options that all of them
//! take, how long they may take, and what their failures mean.
//!
//! Every call ends. librados gives up a cluster that does not answer (`client_mount_timeout`), and an
//! operation on an object that a full pool or a missing OSD holds up (`rados_osd_op_timeout`); and each
//! program has a deadline of its own besides, at which it is killed.

use super::output::LONGEST_REASON;
use super::{CommandError, Output, find, plain, prepared};
use crate::process;
use crate::sys::ChildLimits;
use crate::text::one_line;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The package with `rbd`, `rados` and `ceph`.
const PACKAGE: &str = "ceph-common";
/// How long the monitors have to answer.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a program that works on one object or a few has beyond the time of two operations.
const QUICK: Duration = Duration::from_secs(30);
/// What a program that moves an image has at least.
const BULK: Duration = Duration::from_secs(600);
/// And the least rate that it is expected to reach, bytes a second.
const SLOWEST: u64 = 4 << 20;
/// So much of a report is read at most, bytes: the names of a million images fit in.
const LONGEST_REPORT: u64 = 64 << 20;

/// How long a program may take.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// It asks for, or changes, a few objects.
    Quick,
    /// It works through an image of so many bytes.
    Bulk(u64),
}

/// Whether a program may be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It ends with its driver.
    WithDriver,
    /// It comes to its end whatever becomes of the driver, and keeps the driver's lock until then.
    ByItself,
}

/// How a cluster is reached.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// `CEPH_USER`: the name without `client.`; `None`: `admin`.
    pub user: Option<String>,
    /// `CEPH_KEY`: the file that holds the user's key.
    pub key: Option<PathBuf>,
    /// `CEPH_CONF`; `None`: `/etc/ceph/ceph.conf`.
    pub conf: Option<PathBuf>,
    /// How long one operation on an object may take.
    pub operation_timeout: Duration,
    /// What programs that change names hold open: the lock of the image that they work on.
    pub lock: OnceLock<Arc<File>>,
    /// Whether this is what a driver that was told to stop takes back with: then no program ends with the driver.
    pub at_stop: bool,
}

/// Why a program of Ceph failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It can't be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It failed, and said why.
    #[error("`{command}` failed ({}): {reason}", Errno::from_raw(*code).desc())]
    Failed {
        /// The program and what it was to do.
        command: String,
        /// Its exit code, which is an error number of the system.
        code: i32,
        /// What it said.
        reason: String,
    },
    /// It was not done in time.
    #[error("`{command}` timed out after {seconds} s")]
    TimedOut {
        /// The program and what it was to do.
        command: String,
        /// How long it had, s.
        seconds: u64,
    },
    /// It printed what it should not have.
    #[error("`{command}` printed unexpected output: {output}")]
    Unexpected {
        /// The program and what it was to do.
        command: String,
        /// The beginning of what it printed.
        output: String,
    },
}

/// What kept a program from its work, as far as its exit code and words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The monitors don't answer.
    Monitors,
    /// The monitors refuse the user or the key.
    Credentials,
    /// There is no such pool.
    Pool,
    /// An operation on an object was not done in time.
    Objects,
    /// The user may not do this.
    Permission,
    /// The pool, or its quota, is full.
    Space,
    /// There is no such pool for the data.
    DataPool,
    /// Something else.
    Other,
}

impl ClusterError {
    fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Failed { code, .. } if *code == errno as i32)
    }

    fn says(&self, words: &str) -> bool {
        matches!(self, Self::Failed { reason, .. } if reason.contains(words))
    }

    /// Whether what the program was to work on is not there, although the pool is.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.is(Errno::ENOENT) && self.obstacle() == Obstacle::Other
    }

    /// Whether a name is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.is(Errno::EEXIST)
    }

    /// Whether an image has snapshots left.
    #[must_use]
    pub fn has_snapshots(&self) -> bool {
        self.is(Errno::ENOTEMPTY)
    }

    /// Whether something still uses what the program was to change.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is(Errno::EBUSY)
    }

    /// Whether it was killed: what it was to do may be done.
    #[must_use]
    pub fn was_cut_off(&self) -> bool {
        self.is(Errno::EINTR) || matches!(self, Self::TimedOut { .. })
    }

    /// Whether the arguments don't fit the state of things: a snapshot that is not protected.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.is(Errno::EINVAL)
    }

    /// Whether the user may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.obstacle() == Obstacle::Permission
    }

    /// What kept the program from its work.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        let Self::Failed { code, .. } = self else {
            return match self {
                Self::TimedOut { .. } => Obstacle::Objects,
                _ => Obstacle::Other,
            };
        };
        let connecting = ["couldn't connect to the cluster", "error connecting to the cluster"]
            .iter()
            .any(|words| self.says(words));
        match Errno::from_raw(*code) {
            Errno::ETIMEDOUT if connecting => Obstacle::Monitors,
            // `ceph` is no binary of librados: it exits with 1 and writes the number.
            _ if connecting && self.says("[errno 110]") => Obstacle::Monitors,
            _ if connecting => Obstacle::Credentials,
            Errno::ENOENT if self.says("error opening pool") => Obstacle::Pool,
            Errno::ENOENT if self.says("data pool") => Obstacle::DataPool,
            Errno::ETIMEDOUT => Obstacle::Objects,
            Errno::EPERM | Errno::EACCES => Obstacle::Permission,
            Errno::ENOSPC | Errno::EDQUOT => Obstacle::Space,
            _ => Obstacle::Other,
        }
    }
}

impl Cluster {
    /// The options that every program takes.
    fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: OsString| options.extend([name.into(), value]);
        if let Some(conf) = &self.conf {
            add("--conf", conf.into());
        }
        if let Some(user) = &self.user {
            add("--id", user.into());
        }
        if let Some(key) = &self.key {
            add("--keyfile", key.into());
        }
        let seconds = |time: Duration| OsString::from(time.as_secs().max(1).to_string());
        add("--client-mount-timeout", seconds(MOUNT_TIMEOUT));
        add("--rados-mon-op-timeout", seconds(MOUNT_TIMEOUT));
        add("--rados-osd-op-timeout", seconds(self.operation_timeout));
        options
    }

    /// How long a program may take.
    pub(super) fn limit(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Quick => MOUNT_TIMEOUT + 2 * self.operation_timeout + QUICK,
            Pace::Bulk(size) => {
                BULK + 2 * self.operation_timeout + Duration::from_secs(size / SLOWEST)
            }
        }
    }

    /// Runs a program that only asks, or whose work is of no use without the driver; what it printed.
    pub(super) fn ask(
        &self,
        program: &str,
        words: &[&str],
        pace: Pace,
    ) -> Result<String, ClusterError> {
        self.run(program, words, pace, Ending::WithDriver)
    }

    /// Runs a program that changes names: it comes to its end whatever becomes of the driver.
    pub(super) fn change(
        &self,
        program: &str,
        words: &[&str],
        pace: Pace,
    ) -> Result<(), ClusterError> {
        self.run(program, words, pace, Ending::ByItself).map(drop)
    }

    /// Starts a program that changes names, and does not wait for its end.
    pub(super) fn leave(&self, program: &str, words: &[&str]) -> Result<(), ClusterError> {
        let running = self.start(program, words, Ending::ByItself, None)?;
        *running.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(())
    }

    fn run(
        &self,
        program: &str,
        words: &[&str],
        pace: Pace,
        ending: Ending,
    ) -> Result<String, ClusterError> {
        let ending = if self.at_stop { Ending::ByItself } else { ending };
        let running = self.start(program, words, ending, None)?;
        let limit = self.limit(pace);
        running.limited(limit);
        running.wait(limit)
    }

    /// Starts a program whose output is a stream.
    pub(super) fn stream(&self, name: &str, words: &[&str]) -> Result<Output, ClusterError> {
        let program = find(name, PACKAGE)?;
        let mut arguments = self.options();
        arguments.extend(words.iter().map(OsString::from));
        let command = prepared(&program, &arguments, ChildLimits::default());
        Ok(Output::of(program, arguments, command)?)
    }

    /// Starts a program that reads `input`. It is not stopped with the driver: the end of its input ends it.
    pub(super) fn feed(
        &self,
        program: &str,
        words: &[&str],
        input: Stdio,
    ) -> Result<Running, ClusterError> {
        self.start(program, words, Ending::ByItself, Some(input))
    }

    fn start(
        &self,
        name: &str,
        words: &[&str],
        ending: Ending,
        input: Option<Stdio>,
    ) -> Result<Running, ClusterError> {
        let program = find(name, PACKAGE)?;
        let mut arguments = self.options();
        arguments.extend(words.iter().map(OsString::from));
        let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
        let mut command = match ending {
            Ending::WithDriver => prepared(&program, &arguments, ChildLimits::default()),
            Ending::ByItself => plain(&program, &arguments),
        };
        let memory = || memfd_create("output", MFdFlags::MFD_CLOEXEC).map(File::from);
        let (stdout, stderr) = (memory(), memory());
        let stdout = stdout.map_err(|errno| not_started(errno.into()))?;
        let stderr = stderr.map_err(|errno| not_started(errno.into()))?;
        let copy = |file: &File| file.try_clone().map_err(not_started);
        command.process_group(0).stdout(copy(&stdout)?).stderr(copy(&stderr)?);
        command.stdin(match (input, ending, self.lock.get()) {
            (Some(input), ..) => input,
            // A lock belongs to all that hold the file open, and ends with the last of them.
            (None, Ending::ByItself, Some(lock)) => copy(lock)?.into(),
            (None, ..) => Stdio::null(),
        });
        let child = spawn(&mut command, ending).map_err(not_started)?;
        let command = std::iter::once(name).chain(words.iter().copied()).collect::<Vec<_>>();
        Ok(Running {
            command: one_line(&command.join(" ")),
            child,
            ending,
            ended: Arc::default(),
            killed: Arc::default(),
            stdout,
            stderr,
        })
    }
}

fn spawn(command: &mut Command, ending: Ending) -> io::Result<Child> {
    match ending {
        Ending::WithDriver => process::spawn(command),
        Ending::ByItself => command.spawn(),
    }
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

/// Whether a value can be an argument of these programs without being an option or naming something else.
#[must_use]
pub fn is_plain_path(path: &Path) -> bool {
    path.is_absolute() && path.to_str().is_some_and(|text| !text.contains(|c: char| c.is_control()))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
