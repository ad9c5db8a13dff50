//! `rbd import` and `rbd import-diff`, which read what they write from a pipe.

use super::CommandError;
use super::cluster::{Cluster, ClusterError, Pace};
use super::running::Running;
use crate::sys;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a pipe to `rbd` holds, bytes: the most that Linux gives a user who is not root.
const PIPE: i32 = 1 << 20;

/// `rbd import-diff`, which writes what it is sent into an image.
///
/// It takes the stream for whole only where that ends as its format says. So the death of the driver, which ends the
/// stream early, is its failure; and since it ends by itself then, it leaves no client that the cluster takes for one
/// that lives.
#[derive(Debug)]
pub struct Import {
    running: Running,
    pipe: Arc<File>,
    /// Whether all has been written, so that the program is waited for.
    ending: Arc<AtomicBool>,
    limit: Duration,
}

impl Import {
    /// Starts `rbd` with these words.
    pub(super) fn start(cluster: &Cluster, words: &[&str]) -> Result<Self, ClusterError> {
        let not_started = |source| CommandError::NotStarted { program: "rbd".into(), source };
        let (output, pipe) = wide_pipe().map_err(not_started)?;
        let running = cluster.feed("rbd", words, output)?;
        Ok(Self::of(running, Arc::new(pipe), cluster.limit(Pace::Quick)))
    }

    /// A program that reads from `pipe`. It is killed when it takes nothing, or is waited for, for `limit`.
    pub(super) fn of(running: Running, pipe: Arc<File>, limit: Duration) -> Self {
        let import = Self { running, pipe, ending: Arc::default(), limit };
        import.watch();
        import
    }

    /// Waits for a reply of the program by `wait`.
    pub(super) fn while_waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.ending.store(true, Ordering::SeqCst);
        let done = wait();
        self.ending.store(false, Ordering::SeqCst);
        done
    }

    /// Ends a program that takes nothing for too long.
    fn watch(&self) {
        let (pipe, ending, limit) = (Arc::clone(&self.pipe), Arc::clone(&self.ending), self.limit);
        let mut last = Instant::now();
        self.running.watched(move || {
            if !ending.load(Ordering::SeqCst) && takes_more(&pipe) {
                last = Instant::now();
            }
            last.elapsed() > limit
        });
    }

    /// What the stream is written to. Once the program is stopped, it leads nowhere.
    #[must_use]
    pub fn pipe(&self) -> Arc<File> {
        Arc::clone(&self.pipe)
    }

    /// Waits until all that was written is in the image.
    ///
    /// # Errors
    /// Why `rbd` failed; the image is incomplete then.
    pub fn finish(self) -> Result<(), ClusterError> {
        self.ending.store(true, Ordering::SeqCst);
        sys::revoke(&self.pipe);
        self.running.wait(self.limit).map(drop)
    }

    /// What ends the program from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { pipe: self.pipe(), process: self.running.id() }
    }
}

/// Ends an [`Import`] before it is whole.
#[derive(Debug, Clone)]
pub struct Stopper {
    pipe: Arc<File>,
    process: Pid,
}

impl Stopper {
    /// Ends the stream, and waits for the end of the program, but no longer than `timeout`.
    pub fn stop(&self, timeout: Duration) {
        sys::revoke(&self.pipe);
        let until = Instant::now() + timeout;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while matches!(waitid(Id::Pid(self.process), flags), Ok(WaitStatus::StillAlive))
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A pipe that holds [`PIPE`] bytes: the end that a program reads, and the other one.
pub(super) fn wide_pipe() -> io::Result<(Stdio, File)> {
    let (output, input) = io::pipe()?;
    // A hint: smaller pipes do too.
    let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE));
    Ok((output.into(), OwnedFd::from(input).into()))
}

fn takes_more(pipe: &File) -> bool {
    let mut ends = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
