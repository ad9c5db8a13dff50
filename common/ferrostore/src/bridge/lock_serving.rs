//! Locks of this machine under which the driver on another one works.

use super::frame::{self, Tag};
use super::out::Out;
use super::report;
use crate::kinds::FrontEndLock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::lock_provider::Held;
use runtime::process;
use std::io::{self, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
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
pub(super) struct Frames<R = ChildStdout> {
    from: BufReader<R>,
    pub(super) lock: ServedLock,
    /// Whether it was asked if the action is still wanted.
    pub(super) commit_was_checked: bool,
    /// What has been read already.
    next: Option<Next>,
}

type Next = io::Result<Option<(Tag, Vec<u8>)>>;

impl<R: Read + AsFd> Frames<R> {
    pub(super) fn of(from: BufReader<R>, out: Out, lock: Option<FrontEndLock>) -> Self {
        let lock = ServedLock { state: Arc::default(), out, source: lock };
        Self { from, lock, commit_was_checked: false, next: None }
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
            Ok(Some((Tag::Commit, _))) => {
                process::check_before_commit();
                self.commit_was_checked = true;
                let mut out = self.lock.out.clone();
                let _ = frame::write(&mut out, Tag::Proceed, b"").and_then(|()| out.flush());
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::front_end::{FrontEndLocks, Line};
    use super::*;
    use runtime::lock_provider::LockProvider as _;
    use std::io::BufWriter;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    /// A lock of this machine: how many hold it, and how it was waited for. Each test has a name of its own.
    static HELD: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];

    struct Hold(usize);

    impl Drop for Hold {
        fn drop(&mut self) {
            HELD[self.0].fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Acquires the lock named by a number, or refuses it where the name is none. One that ends with a `!` can only be
    /// had within [`TIMEOUT`].
    fn acquire(name: &str, timeout: Option<Duration>) -> Result<Held, String> {
        let number = name.trim_end_matches('!');
        let number: usize = number.parse().map_err(|_| format!("{name} is held by another"))?;
        if name.ends_with('!') && timeout != Some(TIMEOUT) {
            return Err("it is held for long".to_owned());
        }
        HELD[number].fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Hold(number)))
    }

    fn held(number: usize) -> u32 {
        HELD[number].load(Ordering::SeqCst)
    }

    /// The front-end's side of a connection, and the stream that is the other side.
    fn connection() -> (Frames<UnixStream>, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        let lock = FrontEndLock { name: "0".to_owned(), acquire };
        let out = Out::new(BufWriter::new(here.try_clone().unwrap()));
        (Frames::of(BufReader::new(here), out, Some(lock)), there)
    }

    fn send(to: &UnixStream, tag: Tag, payload: &[u8]) {
        frame::write(&mut (&*to), tag, payload).unwrap();
    }

    fn received(from: &UnixStream) -> (Tag, Vec<u8>) {
        frame::read(&mut (&*from)).unwrap().unwrap()
    }

    /// A connection on which the other side has asked for a lock, and was answered.
    fn asked_for(name: &str) -> (Frames<UnixStream>, UnixStream) {
        let (mut frames, other) = connection();
        send(&other, Tag::Lock, name.as_bytes());
        send(&other, Tag::Reply, b"");
        assert!(frames.next().unwrap().is_some());
        (frames, other)
    }

    #[test]
    fn a_lock_that_is_asked_for_is_held_until_it_is_released() {
        let (mut frames, other) = connection();
        send(&other, Tag::Lock, b"1");
        send(&other, Tag::Reply, b"in between");
        assert_eq!(frames.next().unwrap(), Some((Tag::Reply, b"in between".to_vec())));
        assert_eq!(received(&other), (Tag::Locked, Vec::new()));
        assert_eq!(held(1), 1);
        send(&other, Tag::Unlock, b"");
        send(&other, Tag::Reply, b"");
        assert!(frames.next().unwrap().is_some());
        assert_eq!(held(1), 0);
    }

    #[test]
    fn a_lock_that_can_not_be_had_is_refused_with_the_reason() {
        let (frames, other) = asked_for("x");
        assert_eq!(received(&other), (Tag::Refused, b"x is held by another".to_vec()));
        assert_eq!(frames.lock.timeout(Duration::ZERO), Duration::ZERO, "nothing is held");
    }

    #[test]
    fn a_lock_is_released_when_the_other_side_ends() {
        let (mut frames, other) = asked_for("2");
        assert_eq!((received(&other).0, held(2)), (Tag::Locked, 1));
        drop(other);
        assert_eq!(frames.next().unwrap(), None);
        assert_eq!(held(2), 0);
    }

    #[test]
    fn who_is_told_that_nothing_more_comes_keeps_the_lock_to_clean_up() {
        let (mut frames, other) = asked_for("3");
        assert_eq!(received(&other).0, Tag::Locked);
        frames.lock.leave_until_end();
        assert_eq!(received(&other).0, Tag::Last);
        assert_eq!(frames.lock.timeout(Duration::ZERO), CLEANING);
        // What it releases now stays held: it was left the lock until it ends.
        send(&other, Tag::Unlock, b"");
        send(&other, Tag::Reply, b"");
        assert!(frames.next().unwrap().is_some());
        assert_eq!(held(3), 1);
        frames.lock.end();
        assert_eq!(held(3), 0);
    }

    #[test]
    fn a_lock_that_was_released_is_acquired_again_to_clean_up_and_not_for_long() {
        let (frames, other) = asked_for("4!");
        assert_eq!(received(&other).0, Tag::Refused);
        frames.lock.leave_until_end();
        assert_eq!((received(&other).0, held(4)), (Tag::Last, 1));
        frames.lock.end();
        assert_eq!(held(4), 0);
    }

    #[test]
    fn an_action_that_is_wanted_may_be_committed() {
        let (mut frames, other) = connection();
        send(&other, Tag::Commit, b"");
        send(&other, Tag::Reply, b"");
        assert!(!frames.commit_was_checked);
        assert!(frames.next().unwrap().is_some());
        assert!(frames.commit_was_checked);
        assert_eq!(received(&other), (Tag::Proceed, Vec::new()));
    }

    #[test]
    fn without_a_request_no_lock_is_left() {
        let (frames, other) = connection();
        frames.lock.leave_until_end();
        frames.lock.end();
        frames.lock.leave_until_end();
        drop(frames);
        assert!(frame::read(&mut &other).unwrap().is_none(), "nothing is sent");
    }

    #[test]
    fn a_stop_waits_for_the_other_side_and_no_longer() {
        let (frames, other) = asked_for("5");
        let stopper = Stopper { input: other.try_clone().unwrap(), lock: frames.lock.clone() };
        frames.lock.leave_until_end();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| stopper.wait());
            frames.lock.end();
            waiting.join().unwrap();
        });
        assert_eq!(held(5), 0);
    }

    /// Both ends of the protocol: the locks of `front_end.rs` over a connection to these.
    #[test]
    fn both_ends_agree_on_who_holds_the_lock() {
        let (mut frames, other) = connection();
        let say = {
            let other = other.try_clone().unwrap();
            move |tag: Tag, payload: &[u8]| frame::write(&mut &other, tag, payload)
        };
        let locks = FrontEndLocks(Arc::new(Line::new(false, say)));
        thread::scope(|scope| {
            let answers = Arc::clone(&locks.0);
            let reader = other.try_clone().unwrap();
            scope.spawn(move || {
                while let Ok(Some((tag, payload))) = frame::read(&mut &reader) {
                    assert!(answers.takes(tag, &payload));
                }
            });
            scope.spawn(|| {
                for _ in 0..50 {
                    let lock = locks.acquire("6").unwrap();
                    assert_eq!(held(6), 1);
                    drop(lock);
                }
                assert_eq!(locks.acquire("y").err().unwrap(), "y is held by another");
                send(&other, Tag::Reply, b"done");
            });
            assert_eq!(frames.next().unwrap(), Some((Tag::Reply, b"done".to_vec())));
            assert_eq!(held(6), 0);
            drop(frames);
        });
    }
}
