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

/// So long the lock is waited for that the other side needs to clean up.
const TIMEOUT: Duration = Duration::from_secs(2);
/// So long the other side has for that.
const CLEANING: Duration = Duration::from_secs(10);

/// What is lent to one other side.
#[derive(Clone)]
pub(super) struct Lending {
    lent: Arc<(Mutex<Lent>, Condvar)>,
    out: Out,
    /// How a lock of this machine is acquired; `None` where the storage needs none.
    lock: Option<FrontEndLock>,
}

#[derive(Default)]
struct Lent {
    /// The lock that is asked for, of which there is one at a time.
    name: Option<String>,
    held: Option<Held>,
    for_good: bool,
    /// Whether the other side has ended.
    ended: bool,
}

impl Lending {
    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.lent.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acquire(&self, name: &str, timeout: Option<Duration>) -> Result<Held, String> {
        match &self.lock {
            Some(lock) => (lock.acquire)(name, timeout),
            None => Err(format!("the front-end has no lock {name} for this kind of datastore")),
        }
    }

    /// Waits for a lock and lends it.
    ///
    /// # Errors
    /// Why it can't be had; the other side has been told.
    pub(super) fn lend(&self, name: &str) -> Result<(), String> {
        self.lent().name = Some(name.to_owned());
        let lock = self.acquire(name, None);
        let mut lent = self.lent();
        let (tag, text) = match &lock {
            Ok(_) => (Tag::Locked, ""),
            Err(reason) => (Tag::Refused, reason.as_str()),
        };
        let mut out = self.out.clone();
        let _ = frame::write(&mut out, tag, text.as_bytes()).and_then(|()| out.flush());
        if !lent.for_good {
            lent.held = Some(lock?);
        }
        Ok(())
    }

    /// Lends the other side what it needs to clean up: nothing more will come from here.
    pub(super) fn lend_for_good(&self) {
        let mut lent = self.lent();
        let Some(name) = lent.name.as_ref().filter(|_| !lent.ended && !lent.for_good) else {
            return;
        };
        if lent.held.is_none() {
            lent.held = self.acquire(name, Some(TIMEOUT)).ok();
        }
        if lent.held.is_some() {
            lent.for_good = true;
            let mut out = self.out.clone();
            let _ = frame::write(&mut out, Tag::Last, b"").and_then(|()| out.flush());
        }
    }

    /// How long the other side may take to end, where `otherwise` is enough if it holds no lock.
    pub(super) fn timeout(&self, otherwise: Duration) -> Duration {
        if self.lent().held.is_some() { CLEANING } else { otherwise }
    }

    /// Takes back what is lent, once the other side has ended.
    pub(super) fn end(&self) {
        let mut lent = self.lent();
        lent.ended = true;
        lent.held = None;
        self.lent.1.notify_all();
    }
}

/// What the other side says.
pub(super) struct Frames {
    from: BufReader<ChildStdout>,
    pub(super) lending: Lending,
    /// What has been read already.
    next: Option<Next>,
}

type Next = io::Result<Option<(Tag, Vec<u8>)>>;

impl Frames {
    pub(super) fn of(from: BufReader<ChildStdout>, out: Out, lock: Option<FrontEndLock>) -> Self {
        Self { from, lending: Lending { lent: Arc::default(), out, lock }, next: None }
    }

    /// The next frame that is not about locks: those are lent on the way.
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
                let _ = self.lending.lend(&String::from_utf8_lossy(&name));
            }
            Ok(Some((Tag::Unlock, _))) => {
                let mut lent = self.lending.lent();
                if !lent.for_good {
                    lent.held = None;
                }
            }
            Ok(Some((Tag::Report, report))) => report::take(&report),
            next => {
                if !matches!(next, Ok(Some(_))) {
                    self.lending.end();
                }
                self.next = Some(next);
            }
        }
    }

    /// Lends what is asked for, where the other side has said something.
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

/// Sends to the other side, and heeds meanwhile what it says.
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
    pub(super) lending: Lending,
}

impl Stopper {
    /// Tells it.
    pub(super) fn stop(&self) {
        self.lending.lend_for_good();
        let _ = self.input.shutdown(Shutdown::Write);
    }

    /// Waits for as long as the other side cleans up under a lock.
    pub(super) fn wait(&self) {
        let (lent, changed) = &*self.lending.lent;
        let lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout_while(lent, CLEANING, |lent| lent.held.is_some() && !lent.ended));
    }
}
