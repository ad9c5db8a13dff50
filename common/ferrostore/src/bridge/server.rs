//! The other side of a connection: the driver on the bridge host.

use super::frame::{self, Tag};
use super::image::{self, receive};
use super::{BridgeError, Role, Sending};
use crate::image_source::ImageSource;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use one_protocol::settings::{Carried, Settings};
use runtime::lock_provider::{self, Held, LockProvider};
use runtime::process;
use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Without a word for so long, the front-end is gone: it says that it is there four times as often.
const SILENCE: Duration = Duration::from_secs(60);

/// A call that came from a front-end.
pub struct BridgeServer {
    role: Role,
    /// The message, as XML.
    pub message: Vec<u8>,
    /// The front-end's settings.
    pub settings: Settings,
    /// The image that it sends.
    pub incoming: Option<ImageSource>,
    line: Arc<Line>,
}

/// What the front-end has said last.
#[derive(Debug, Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    kept: bool,
    broken: bool,
    lock: Lock,
    /// Whether it is lent up to the end of this process.
    for_good: bool,
    /// Since when nothing has come, while something is waited for.
    waiting: Option<Instant>,
}

/// The front-end's lock, of which there is one at a time.
#[derive(Debug, Default, PartialEq, Eq)]
enum Lock {
    #[default]
    Free,
    /// Lent unasked, for its first use.
    Beforehand,
    Asked,
    Held,
    Refused(String),
}

impl State {
    fn has_no_borrower(&self) -> bool {
        matches!(self.lock, Lock::Free | Lock::Beforehand)
    }
}

/// What holds the front-end's lock.
struct Borrowed(Arc<Line>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// The front-end keeps the locks.
struct FrontEnd(Arc<Line>);

impl LockProvider for FrontEnd {
    fn acquire(&self, name: &str) -> Result<Held, String> {
        let line = &self.0;
        let mut state = line.when(State::has_no_borrower);
        if state.for_good || state.lock == Lock::Beforehand {
            state.lock = Lock::Held;
            return Ok(Box::new(Borrowed(Arc::clone(line))));
        }
        state.lock = Lock::Asked;
        drop(state);
        if say(Tag::Lock, name.as_bytes()).is_err() {
            line.change(|state| state.broken = true);
        }
        let mut state = line.when(|state| state.lock != Lock::Asked || state.broken);
        match std::mem::replace(&mut state.lock, Lock::Held) {
            Lock::Held => Ok(Box::new(Borrowed(Arc::clone(line)))),
            _ if state.for_good => Ok(Box::new(Borrowed(Arc::clone(line)))),
            other => {
                state.lock = Lock::Free;
                self.0.changed.notify_all();
                Err(match other {
                    Lock::Refused(reason) => reason,
                    _ => BridgeError::Lost.to_string(),
                })
            }
        }
    }

    fn release_early(&self) {
        let mut state = self.0.when(State::has_no_borrower);
        if std::mem::take(&mut state.lock) == Lock::Beforehand {
            drop(state);
            let _ = say(Tag::Unlock, b"");
        }
    }
}

/// Says something to the front-end.
fn say(tag: Tag, payload: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    frame::write(&mut out, tag, payload).and_then(|()| out.flush())
}

impl Line {
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

    fn give_back(&self) {
        if !self.state().for_good {
            let _ = say(Tag::Unlock, b"");
        }
        self.change(|state| state.lock = Lock::Free);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Has this driver do what it does on a signal.
    fn disconnect(&self) {
        self.change(|state| state.broken = true);
        let _ = kill(Pid::this(), Signal::SIGHUP);
    }
}

/// Takes the call that a front-end sends on standard input.
///
/// # Errors
/// [`BridgeError::NoFrames`] where it is none, [`BridgeError::Lost`] where it breaks off.
pub fn accept() -> Result<BridgeServer, BridgeError> {
    let mut stdin = io::stdin().lock();
    let mut next = || match frame::read(&mut stdin) {
        Ok(Some(frame)) => Ok(frame),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(BridgeError::NoFrames(error))
        }
        Ok(None) | Err(_) => Err(BridgeError::Lost),
    };
    let no_frames = || BridgeError::NoFrames(io::ErrorKind::InvalidData.into());
    let mut role = None;
    let mut pairs = Vec::new();
    let message = loop {
        match next()? {
            (Tag::Role, payload) => role = Role::of(&payload),
            (Tag::Setting, payload) => pairs.push(payload),
            (Tag::Message, message) => break message,
            _ => return Err(no_frames()),
        }
    };
    let role = role.ok_or_else(no_frames)?;
    let mut incoming = None;
    let mut intake = None;
    let mut lock = Lock::Free;
    if role == Role::Take {
        let first = loop {
            match next()? {
                (Tag::Alive, _) => {}
                (Tag::Locked, _) => lock = Lock::Beforehand,
                (Tag::Image, payload) => break payload,
                _ => return Err(no_frames()),
            }
        };
        let (image, rest) = receive(&first).map_err(BridgeError::NoFrames)?;
        incoming = Some(image);
        intake = Some(rest);
    }
    drop(stdin);
    let state = State { lock, ..State::default() };
    let line = Arc::new(Line { state: Mutex::new(state), changed: Condvar::new() });
    lock_provider::set_provider(FrontEnd(Arc::clone(&line)));
    let settings = Settings::of_another_machine(Carried::of(pairs));
    listen(Arc::clone(&line), intake).map_err(BridgeError::System)?;
    Ok(BridgeServer { role, message, settings, incoming, line })
}

/// Listens to the front-end for as long as this process lives.
fn listen(line: Arc<Line>, intake: Option<image::Intake>) -> io::Result<()> {
    let watched = Arc::clone(&line);
    std::thread::Builder::new().spawn(move || {
        read_frames(&line, intake);
        line.disconnect();
        // The stream stays open: its reader would report a misleading end of file.
        loop {
            std::thread::park();
        }
    })?;
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let mut silent = false;
        loop {
            std::thread::sleep(SILENCE / 8);
            let since = watched.state().waiting;
            let late = since.is_some_and(|since| since.elapsed() > SILENCE);
            // Twice: a machine that was asleep itself wakes up to what has come meanwhile.
            if late && silent {
                return watched.disconnect();
            }
            silent = late;
        }
    })?;
    Ok(())
}

/// Takes frames until there are no more.
fn read_frames(line: &Line, mut intake: Option<image::Intake>) {
    let mut stdin = io::stdin().lock();
    loop {
        line.change(|state| state.waiting = Some(Instant::now()));
        let frame = frame::read(&mut stdin);
        line.change(|state| state.waiting = None);
        match (frame, intake.as_mut()) {
            (Ok(Some((Tag::Alive, _))), _) => {}
            (Ok(Some((Tag::Locked, _))), _) => line.change(|state| state.lock = Lock::Held),
            (Ok(Some((Tag::Refused, reason))), _) => {
                let reason = String::from_utf8_lossy(&reason).into_owned();
                line.change(|state| state.lock = Lock::Refused(reason));
            }
            (Ok(Some((Tag::Last, _))), _) => line.change(|state| state.for_good = true),
            (Ok(Some((Tag::Keep, _))), None) => line.change(|state| state.kept = true),
            (Ok(Some((tag, payload))), Some(image)) => match image.take(tag, payload) {
                Ok(false) => {}
                Ok(true) => intake = None,
                Err(error) => {
                    // The reader says so.
                    if let Some(image) = intake.take() {
                        image.fail(error);
                    }
                }
            },
            (Ok(Some(_)), None) => {}
            (Ok(None) | Err(_), _) => {
                std::mem::forget(intake);
                return;
            }
        }
    }
}

impl BridgeServer {
    /// Whether the front-end only wants the image.
    #[must_use]
    pub fn only_gives(&self) -> bool {
        self.role == Role::Give
    }

    /// Sends the image.
    ///
    /// # Errors
    /// [`BridgeError`].
    pub fn give(&self, image: Box<dyn Sending>) -> Result<(), BridgeError> {
        image.send(&mut io::BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Sends the reply, and waits until it is there: what the action has made is wanted then.
    ///
    /// # Errors
    /// [`BridgeError::Lost`]: what the action has made was rolled back.
    pub fn reply(&self, reply: &[u8]) -> Result<(), BridgeError> {
        if say(Tag::Reply, reply).is_err() {
            self.line.change(|state| state.broken = true);
        }
        let kept = self.line.when(|state| state.kept || state.broken).kept;
        // Where there is nothing to take back, the action has been done.
        if kept || !process::roll_back_new_image() { Ok(()) } else { Err(BridgeError::Lost) }
    }
}
