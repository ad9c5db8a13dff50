//! What the driver on a bridge host knows of the front-end: what it has sent last, and the lock that it holds for this driver.

use super::BridgeError;
use super::frame::Tag;
use runtime::lock_provider::{Held, LockProvider};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A front-end that has sent nothing for this time is gone: it sends a frame four times as often.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// Sends a frame to the front-end.
pub(super) type Say = fn(Tag, &[u8]) -> io::Result<()>;

/// What the front-end has sent last.
#[derive(Debug)]
pub(super) struct Line<S = Say> {
    state: Mutex<State>,
    changed: Condvar,
    say: S,
}

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is something that the front-end says at most once
struct State {
    kept: bool,
    broken: bool,
    /// Whether the front-end has told to commit.
    may_commit: bool,
    lock: Lock,
    /// Whether this process has it until it ends.
    until_end: bool,
    /// Since when nothing has come, while something is waited for.
    waiting: Option<Instant>,
}

/// The front-end's lock, of which there is one at a time.
#[derive(Debug, Default, PartialEq, Eq)]
enum Lock {
    #[default]
    Free,
    /// Acquired ahead, for its first use.
    Ahead,
    Asked,
    Held,
    Refused(String),
}

impl State {
    fn is_unused(&self) -> bool {
        matches!(self.lock, Lock::Free | Lock::Ahead)
    }
}

impl<S: Fn(Tag, &[u8]) -> io::Result<()>> Line<S> {
    /// A new connection, on which the front-end has acquired its lock ahead or not.
    pub(super) fn new(has_lock: bool, say: S) -> Self {
        let lock = if has_lock { Lock::Ahead } else { Lock::Free };
        let state = State { lock, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new(), say }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, once it is as wanted.
    fn when(&self, wanted: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while !wanted(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Takes a frame, if it is about locks or only says that the front-end is there; whether it is.
    pub(super) fn takes(&self, tag: Tag, payload: &[u8]) -> bool {
        match tag {
            Tag::Alive => {}
            Tag::Locked => self.change(|state| state.lock = Lock::Held),
            Tag::Refused => {
                let reason = String::from_utf8_lossy(payload).into_owned();
                self.change(|state| state.lock = Lock::Refused(reason));
            }
            Tag::Last => self.change(|state| state.until_end = true),
            Tag::Proceed => self.change(|state| state.may_commit = true),
            _ => return false,
        }
        true
    }

    /// Notes since when something is waited for, if it is.
    pub(super) fn waits_since(&self, since: Option<Instant>) {
        self.change(|state| state.waiting = since);
    }

    /// Since when something is waited for.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.state().waiting
    }

    /// Notes that the reply has arrived.
    pub(super) fn keep(&self) {
        self.change(|state| state.kept = true);
    }

    /// Waits until the reply has arrived, or never will; whether it has.
    pub(super) fn is_kept(&self) -> bool {
        self.when(|state| state.kept || state.broken).kept
    }

    /// Asks the front-end whether the action is still wanted: the reason not to commit it.
    pub(super) fn reason_not_to_commit(&self) -> Option<String> {
        if (self.say)(Tag::Commit, b"").is_err() {
            self.break_off();
        }
        let state = self.when(|state| state.may_commit || state.broken);
        // Where it is not wanted, the front-end has said why, and has gone.
        (!state.may_commit).then(|| BridgeError::Lost.to_string())
    }

    /// Notes that nothing more will come.
    pub(super) fn break_off(&self) {
        self.change(|state| state.broken = true);
    }

    fn release(&self) {
        if !self.state().until_end {
            let _ = (self.say)(Tag::Unlock, b"");
        }
        self.change(|state| state.lock = Lock::Free);
    }
}

/// The locks of the front-end.
pub(super) struct FrontEndLocks<S: Fn(Tag, &[u8]) -> io::Result<()> = Say>(pub(super) Arc<Line<S>>);

/// The front-end's lock, held.
struct RemoteLock<S: Fn(Tag, &[u8]) -> io::Result<()>>(Arc<Line<S>>);

impl<S: Fn(Tag, &[u8]) -> io::Result<()>> Drop for RemoteLock<S> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<S: Fn(Tag, &[u8]) -> io::Result<()> + Send + Sync + 'static> LockProvider
    for FrontEndLocks<S>
{
    fn acquire(&self, name: &str) -> Result<Held, String> {
        let line = &self.0;
        let mut state = line.when(State::is_unused);
        if state.until_end || state.lock == Lock::Ahead {
            state.lock = Lock::Held;
            return Ok(Box::new(RemoteLock(Arc::clone(line))));
        }
        state.lock = Lock::Asked;
        drop(state);
        if (line.say)(Tag::Lock, name.as_bytes()).is_err() {
            line.break_off();
        }
        let mut state = line.when(|state| state.lock != Lock::Asked || state.broken);
        match std::mem::replace(&mut state.lock, Lock::Held) {
            Lock::Held => Ok(Box::new(RemoteLock(Arc::clone(line)))),
            _ if state.until_end => Ok(Box::new(RemoteLock(Arc::clone(line)))),
            other => {
                state.lock = Lock::Free;
                line.changed.notify_all();
                Err(match other {
                    Lock::Refused(reason) => reason,
                    _ => BridgeError::Lost.to_string(),
                })
            }
        }
    }

    fn release_early(&self) {
        let mut state = self.0.when(State::is_unused);
        if std::mem::take(&mut state.lock) == Lock::Ahead {
            drop(state);
            let _ = (self.0.say)(Tag::Unlock, b"");
        }
    }
}

/// Whether the front-end has fallen silent.
#[derive(Debug, Default)]
pub(super) struct Silence {
    late: bool,
}

impl Silence {
    /// Looks at how long something has been waited for, if it is. Silence is noticed at the second look: a machine that
    /// was asleep itself wakes up to what has come meanwhile.
    pub(super) fn is_noticed(&mut self, waiting: Option<Duration>) -> bool {
        let late = waiting.is_some_and(|waiting| waiting > SILENCE);
        std::mem::replace(&mut self.late, late) && late
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    type Said = (Tag, Vec<u8>);

    /// The locks of a front-end that is the test itself: it gets the frames, and answers by [`Line::takes`].
    #[allow(clippy::type_complexity)]
    fn locks(
        has_lock: bool,
    ) -> (FrontEndLocks<impl Fn(Tag, &[u8]) -> io::Result<()>>, Receiver<Said>) {
        let (sender, frames): (Sender<Said>, _) = channel();
        let say = move |tag, payload: &[u8]| {
            sender.send((tag, payload.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe.into())
        };
        (FrontEndLocks(Arc::new(Line::new(has_lock, say))), frames)
    }

    #[test]
    fn a_lock_is_held_from_the_answer_until_it_is_given_back() {
        let (locks, frames) = locks(false);
        thread::scope(|scope| {
            let held = scope.spawn(|| locks.acquire("vg"));
            assert_eq!(frames.recv().unwrap(), (Tag::Lock, b"vg".to_vec()));
            assert!(locks.0.takes(Tag::Locked, b""));
            let held = held.join().unwrap().unwrap();
            assert!(frames.try_recv().is_err(), "nothing is released");
            drop(held);
            assert_eq!(frames.recv().unwrap(), (Tag::Unlock, Vec::new()));
        });
    }

    #[test]
    fn a_refusal_says_why_and_the_lock_can_be_asked_for_again() {
        let (locks, frames) = locks(false);
        for _ in 0..2 {
            thread::scope(|scope| {
                let held = scope.spawn(|| locks.acquire("vg").err());
                assert_eq!(frames.recv().unwrap().0, Tag::Lock);
                assert!(locks.0.takes(Tag::Refused, b"held by another host"));
                assert_eq!(held.join().unwrap().unwrap(), "held by another host");
            });
        }
    }

    #[test]
    fn a_lock_acquired_ahead_is_asked_for_only_the_second_time() {
        let (locks, frames) = locks(true);
        drop(locks.acquire("vg").unwrap());
        assert_eq!(frames.recv().unwrap().0, Tag::Unlock);
        thread::scope(|scope| {
            let held = scope.spawn(|| locks.acquire("vg").is_ok());
            assert_eq!(frames.recv().unwrap().0, Tag::Lock);
            locks.0.takes(Tag::Locked, b"");
            assert!(held.join().unwrap());
        });
    }

    #[test]
    fn a_lock_acquired_ahead_and_not_needed_is_released_once() {
        let (held_ahead, frames) = locks(true);
        held_ahead.release_early();
        held_ahead.release_early();
        assert_eq!(frames.try_iter().collect::<Vec<_>>(), [(Tag::Unlock, Vec::new())]);
        let (never_held, frames) = locks(false);
        never_held.release_early();
        assert!(frames.try_recv().is_err());
    }

    #[test]
    fn the_next_lock_is_asked_for_only_when_the_first_was_given_back() {
        let (locks, frames) = locks(true);
        let first = locks.acquire("vg").unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| locks.acquire("vg").is_ok());
            // It waits: whatever it asked for would come first.
            thread::yield_now();
            drop(first);
            assert_eq!(frames.recv().unwrap().0, Tag::Unlock);
            assert_eq!(frames.recv().unwrap().0, Tag::Lock);
            locks.0.takes(Tag::Locked, b"");
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn a_front_end_that_goes_away_ends_all_waiting() {
        let (locks, frames) = locks(false);
        thread::scope(|scope| {
            let held = scope.spawn(|| locks.acquire("vg").err());
            assert_eq!(frames.recv().unwrap().0, Tag::Lock);
            locks.0.break_off();
            assert_eq!(held.join().unwrap().unwrap(), BridgeError::Lost.to_string());
        });
        assert!(!locks.0.is_kept(), "no reply will arrive");
        // Nor does one that can't be asked.
        drop(frames);
        assert!(locks.acquire("vg").is_err());
    }

    #[test]
    fn a_lock_that_is_left_until_the_end_is_neither_asked_for_nor_released() {
        let (locks, frames) = locks(false);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| locks.acquire("vg").is_ok());
            assert_eq!(frames.recv().unwrap().0, Tag::Lock);
            locks.0.takes(Tag::Last, b"");
            locks.0.break_off();
            assert!(waiting.join().unwrap());
        });
        drop(locks.acquire("vg").unwrap());
        assert!(frames.try_recv().is_err());
    }

    #[test]
    fn frames_of_images_are_left_to_others() {
        let (locks, _frames) = locks(false);
        for tag in [Tag::Data, Tag::Hole, Tag::End, Tag::Keep] {
            assert!(!locks.0.takes(tag, b""));
        }
        assert!(locks.0.takes(Tag::Alive, b""));
    }

    #[test]
    fn an_action_is_committed_only_once_the_front_end_says_so() {
        let (locks, frames) = locks(false);
        thread::scope(|scope| {
            let reason = scope.spawn(|| locks.0.reason_not_to_commit());
            assert_eq!(frames.recv().unwrap(), (Tag::Commit, Vec::new()));
            assert!(locks.0.takes(Tag::Proceed, b""));
            assert_eq!(reason.join().unwrap(), None);
        });
        let (locks, frames) = self::locks(false);
        thread::scope(|scope| {
            let reason = scope.spawn(|| locks.0.reason_not_to_commit());
            assert_eq!(frames.recv().unwrap().0, Tag::Commit);
            locks.0.break_off();
            assert_eq!(reason.join().unwrap(), Some(BridgeError::Lost.to_string()));
        });
        drop(frames);
        assert!(locks.0.reason_not_to_commit().is_some());
    }

    #[test]
    fn a_reply_is_kept_once_the_front_end_says_so() {
        let (locks, _frames) = locks(false);
        locks.0.keep();
        locks.0.break_off();
        assert!(locks.0.is_kept());
    }

    #[test]
    fn silence_is_noticed_at_the_second_look() {
        let (short, long) = (Some(SILENCE), Some(SILENCE + Duration::from_millis(1)));
        let mut silence = Silence::default();
        assert!(!silence.is_noticed(None));
        assert!(!silence.is_noticed(short));
        assert!(!silence.is_noticed(long));
        // What came meanwhile had only waited for this machine to wake up.
        assert!(!silence.is_noticed(None));
        assert!(!silence.is_noticed(long));
        assert!(silence.is_noticed(long));
    }
}
