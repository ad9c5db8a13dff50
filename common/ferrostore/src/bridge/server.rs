//! The other side of a connection: the driver on the bridge host.

use super::frame::{self, Tag};
use super::front_end::{FrontEndLocks, Line, SILENCE, Say, Silence};
use super::image::{self, receive};
use super::{BridgeError, Role, Sending, report};
use crate::image_source::ImageSource;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use one_protocol::settings::{Carried, Settings};
use runtime::lock_provider;
use runtime::{hooks, process};
use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Between two reports of how far the work is.
const REPORT: Duration = Duration::from_secs(2);

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
    let mut has_lock = false;
    if role == Role::Take {
        let first = loop {
            match next()? {
                (Tag::Alive, _) => {}
                (Tag::Locked, _) => has_lock = true,
                (Tag::Image, payload) => break payload,
                _ => return Err(no_frames()),
            }
        };
        let (image, rest) = receive(&first).map_err(BridgeError::NoFrames)?;
        incoming = Some(image);
        intake = Some(rest);
    }
    drop(stdin);
    let line = Arc::new(Line::new(has_lock, say as Say));
    lock_provider::set_provider(FrontEndLocks(Arc::clone(&line)));
    let settings = Settings::of_another_machine(Carried::of(pairs));
    listen(Arc::clone(&line), intake).map_err(BridgeError::System)?;
    if role != Role::Give {
        report_regularly(role).map_err(BridgeError::System)?;
    }
    Ok(BridgeServer { role, message, settings, incoming, line })
}

/// Listens to the front-end for as long as this process lives.
fn listen(line: Arc<Line>, intake: Option<image::Intake>) -> io::Result<()> {
    let watched = Arc::clone(&line);
    std::thread::Builder::new().spawn(move || {
        read_frames(&line, intake);
        disconnect(&line);
        // The stream stays open: its reader would report a misleading end of file.
        loop {
            std::thread::park();
        }
    })?;
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        let mut silence = Silence::default();
        loop {
            std::thread::sleep(SILENCE / 8);
            if silence.is_noticed(watched.waiting_since().map(|since| since.elapsed())) {
                return disconnect(&watched);
            }
        }
    })?;
    Ok(())
}

/// Says something to the front-end.
fn say(tag: Tag, payload: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    frame::write(&mut out, tag, payload).and_then(|()| out.flush())
}

/// Has this driver do what it does on a signal.
fn disconnect(line: &Line) {
    line.break_off();
    let _ = kill(Pid::this(), Signal::SIGHUP);
}

/// Tells the front-end how far the work is, for as long as this process lives.
fn report_regularly(role: Role) -> io::Result<()> {
    let report = move || {
        loop {
            std::thread::sleep(REPORT);
            if say(Tag::Report, &report::written(role)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(report).map(drop)
}

/// Takes frames until there are no more.
fn read_frames(line: &Line, mut intake: Option<image::Intake>) {
    let mut stdin = io::stdin().lock();
    loop {
        line.waits_since(Some(Instant::now()));
        let frame = frame::read(&mut stdin);
        line.waits_since(None);
        match (frame, intake.as_mut()) {
            (Ok(Some((tag, payload))), _) if line.takes(tag, &payload) => {}
            (Ok(Some((Tag::Keep, _))), None) => line.keep(),
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

/// The front-end that this process works for, once it is to be asked before a commit.
static ASKED: OnceLock<Arc<Line>> = OnceLock::new();

impl BridgeServer {
    /// Has the front-end asked whether the action is still wanted, right before it is committed.
    pub fn ask_before_commit(&self) {
        if self.role == Role::Act && ASKED.set(Arc::clone(&self.line)).is_ok() {
            hooks::set_commit_check(|| ASKED.get()?.reason_not_to_commit());
        }
    }

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
        let _ = say(Tag::Report, &report::written(self.role));
        if say(Tag::Reply, reply).is_err() {
            self.line.break_off();
        }
        let kept = self.line.is_kept();
        // Where there is nothing to take back, the action has been done.
        if kept || !process::roll_back_new_image() { Ok(()) } else { Err(BridgeError::Lost) }
    }
}
