//! Locks of this machine under which the driver on another one works.

use super::frame::{self, Tag};
use super::out::Out;
use super::report;
use crate::kinds::FrontEndLock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::lock_provider::Held;
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ChildStdout;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait for a lock that the other side needs to clean up.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the other side may take to clean up.
const CLEANING: Duration = Duration::from_secs(10);

/// The lock that is acquired for one other side.
#[derive(Clone)]
pub(super) struct ServedLock {
    state: Arc<(Mutex<State>, Condvar)>,
    out: Out,
    /// How a lock of this machine is acquired; `None` where the storage needs none.
    source: Option<FrontEndLock>,
}

#[derive(Default)]
struct State {
    /// The lock that is asked for, of which there is one at a time.
    name: Option<String>,
    held: Option<Held>,
    /// Whether the other side has it until it ends.
    until_end: bool,
    /// Whether the other side has ended.
    ended: bool,
}

impl ServedLock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, name: &str, timeout: Option<Duration>) -> Result<Held, String> {
        match &self.source {
            Some(lock) => (lock.acquire)(name, timeout),
            None => Err(format!("the front-end has no lock {name} for this kind of datastore")),
        }
    }

    /// Waits for a lock and tells the other side that it has it.
    ///
    /// # Errors
    /// Why it can't be had; the other side has been told.
    pub(super) fn acquire(&self, name: &str) -> Result<(), String> {
        self.state().name = Some(name.to_owned());
        let lock = self.wait_for(name, None);
        let mut state = self.state();
        let (tag, text) = match &lock {
            Ok(_) => (Tag::Locked, ""),
            Err(reason) => (Tag::Refused, reason.as_str()),
        };
        let mut out = self.out.clone();
        let _ = frame::write(&mut out, tag, text.as_bytes()).and_then(|()| out.flush());
        if !state.until_end {
            state.held = Some(lock?);
        }
        Ok(())
    }

    /// Leaves the other side the lock that it needs to clean up, until it ends: nothing more will come from here.
    pub(super) fn leave_until_end(&self) {
        let mut state = self.state();
        let Some(name) = state.name.as_ref().filter(|_| !state.ended && !state.until_end) else {
            return;
        };
        if state.held.is_none() {
            state.held = self.wait_for(name, Some(TIMEOUT)).ok();
        }
        if state.held.is_some() {
            state.until_end = true;
            let mut out = self.out.clone();
            let _ = frame::write(&mut out, Tag::Last, b"").and_then(|()| out.flush());
        }
    }

    /// How long the other side may take to end, where `otherwise` is enough if it holds no lock.
    pub(super) fn timeout(&self, otherwise: Duration) -> Duration {
        if self.state().held.is_some() { CLEANING } else { otherwise }
    }

    /// Releases the lock, once the other side has ended.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.held = None;
        self.state.1.notify_all();
    }
}

/// What the other side says.
pub(super) struct Frames {
    from: BufReader<ChildStdout>,
    pub(super) lock: ServedLock,
    /// What has been read already.
    next: Option<Next>,
}

type Next = io::Result<Option<(Tag, Vec<u8>)>>;

impl Frames {
    pub(super) fn of(from: BufReader<ChildStdout>, out: Out, lock: Option<FrontEndLock>) -> Self {
        let lock = ServedLock { state: Arc::default(), out, source: lock };
        Self { from, lock, next: None }
    }

    /// The next frame that is not about locks: requests for them are served on the way.
    ///
    /// # Errors
    /// As [`frame::read`].
    pub(super) fn next(&mut self) -> Next {
        self.listen();
        self.next.take().unwrap_or(Ok(None))
    }

    /// Waits for the next frame that is not about locks, and keeps it.
    pub(super) fn listen(&mut self) {
        while self.next.is_none() {
            self.read();
        }
    }

    fn read(&mut self) {
        match frame::read(&mut self.from) {
            Ok(Some((Tag::Lock, name))) => {
                let _ = self.lock.acquire(&String::from_utf8_lossy(&name));
            }
            Ok(Some((Tag::Unlock, _))) => {
                let mut state = self.lock.state();
                if !state.until_end {
                    state.held = None;
                }
            }
            Ok(Some((Tag::Report, report))) => report::take(&report),
            next => {
                if !matches!(next, Ok(Some(_))) {
                    self.lock.end();
                }
                self.next = Some(next);
            }
        }
    }

    /// Serves requests for the lock, where the other side has sent something.
    fn serve_locks(&mut self) {
        while self.next.is_none() && (!self.from.buffer().is_empty() || self.has_more()) {
            self.read();
        }
    }

    fn has_more(&self) -> bool {
        let mut ends = [PollFd::new(self.from.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut ends, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}

/// Sends to the other side, and serves its requests for the lock meanwhile.
pub(super) struct LockServingWriter<'c> {
    pub(super) out: Out,
    pub(super) frames: &'c mut Frames,
}

impl Write for LockServingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frames.serve_locks();
        self.out.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What tells another side that nothing more comes.
pub(super) struct Stopper {
    pub(super) input: UnixStream,
    pub(super) lock: ServedLock,
}

impl Stopper {
    /// Tells it.
    pub(super) fn stop(&self) {
        self.lock.leave_until_end();
        let _ = self.input.shutdown(Shutdown::Write);
    }

    /// Waits for as long as the other side cleans up under a lock.
    pub(super) fn wait(&self) {
        let (state, changed) = &*self.lock.state;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let cleans_up = |state: &mut State| state.held.is_some() && !state.ended;
        drop(changed.wait_timeout_while(state, CLEANING, cleans_up));
    }
}
