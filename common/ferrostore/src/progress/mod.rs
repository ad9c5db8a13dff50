//! How far an action is, and who is told: a person at a terminal ([`Form::Bar`]), a script ([`Form::Json`]), oned and with
//! it the user ([`oned`]), and on SIGUSR1 the log ([`tell_status`]).
//!
//! What moves bytes reports them with [`advance`], in phases that [`begin`] begins. An image that comes as a stream is
//! measured where it comes from ([`Source`]): only there the length is known.

mod bar;
mod lines;
pub mod oned;
mod source;
pub mod words;

pub use one_protocol::arguments::Form;
pub use source::Source;

use crate::record;
use disk_image::observer::{self, Advice, Moved, Observer};
use runtime::staging::no_space_hint;
use runtime::sys::write_error_line;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

static DONE: AtomicU64 = AtomicU64::new(0);
static TOTAL: AtomicU64 = AtomicU64::new(0);
/// Whether images are counted, and not bytes.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Whether the bar is on the screen. Each write to the terminal locks this.
static SCREEN: Mutex<bool> = Mutex::new(false);
/// Back to the first column, and nothing on the line (ECMA-48, "CR" and "EL").
const CLEAR_LINE: &str = "\r\x1b[2K";
static PHASE: Mutex<Option<Instant>> = Mutex::new(None);
/// Whether a [`Source`] reports. Then what is written counts for nothing, until a phase of known length begins: the
/// conversion of what was read.
static SOURCE_LEADS: AtomicBool = AtomicBool::new(false);
static ENDED: AtomicBool = AtomicBool::new(false);
static FORM: OnceLock<Form> = OnceLock::new();
/// The thread that shows progress on this machine. What shows it is its own, so that a driver that has none holds no code
/// for it.
static SHOWING: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// How far an action is in its phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all; 0 where that is not known.
    pub total: u64,
    /// How long the phase has taken so far.
    pub time: Duration,
}

/// What the bytes of images report to.
struct Images;

impl Observer for Images {
    fn begin(&self, total: u64) {
        begin(total);
    }

    fn advance(&self, bytes: u64) {
        advance(bytes);
    }

    fn moved(&self, how: Moved, bytes: u64) {
        record::moved(how, bytes);
    }

    fn advice(&self, advice: Advice) -> &'static str {
        match advice {
            Advice::RaiseLimit => {
                ", or have the administrator raise MAX_VIRTUAL_SIZE in datastore.conf"
            }
            Advice::KeepEncrypted => ", in a datastore with DRIVER=qcow2 or CONVERT=no",
        }
    }

    fn hint(&self, error: &std::io::Error) -> &'static str {
        no_space_hint(error)
    }
}

/// Has conversions of images report here, and sets how progress is shown.
pub fn install(form: Form) {
    observer::set(&Images);
    let _ = FORM.set(form);
}

/// Says that work on `total` bytes begins (0 where that is not known).
pub fn begin(total: u64) {
    if total > 0 || !SOURCE_LEADS.load(Ordering::Relaxed) {
        SOURCE_LEADS.store(false, Ordering::Relaxed);
        begin_phase(total);
    }
}

fn begin_phase(total: u64) {
    DONE.store(0, Ordering::Relaxed);
    TOTAL.store(total, Ordering::Relaxed);
    *PHASE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    let show: fn() = match FORM.get() {
        Some(Form::Json) => lines::show,
        Some(Form::Bar) | None if std::io::stderr().is_terminal() => bar::show,
        _ => return,
    };
    let mut showing = SHOWING.lock().unwrap_or_else(PoisonError::into_inner);
    if showing.is_none() {
        // Without a thread nothing is shown.
        *showing = std::thread::Builder::new().spawn(show).ok();
    }
}

/// Says that work on `total` images begins.
pub fn begin_counting(total: u64) {
    COUNTING.store(true, Ordering::Relaxed);
    begin(total);
}

/// Has `write` write to a terminal, where the bar may be, as if there were none.
///
/// # Errors
/// As `write`.
pub fn beside_bar<T>(write: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut on_screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *on_screen) {
        std::io::stderr().write_all(CLEAR_LINE.as_bytes())?;
    }
    write()
}

/// Says that so much more is done: bytes, or images.
pub fn advance(amount: u64) {
    if !SOURCE_LEADS.load(Ordering::Relaxed) {
        DONE.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Takes over how far another machine is, where no bytes pass through this one.
pub fn elsewhere(done: u64, total: u64) {
    let mut phase = PHASE.lock().unwrap_or_else(PoisonError::into_inner);
    if TOTAL.load(Ordering::Relaxed) != total || phase.is_none() {
        *phase = Some(Instant::now());
    }
    DONE.store(done, Ordering::Relaxed);
    TOTAL.store(total, Ordering::Relaxed);
}

/// How far the action is.
#[must_use]
pub fn now() -> Now {
    let phase = *PHASE.lock().unwrap_or_else(PoisonError::into_inner);
    Now {
        done: DONE.load(Ordering::Relaxed),
        total: TOTAL.load(Ordering::Relaxed),
        time: phase.map_or(Duration::ZERO, |start| start.elapsed()),
    }
}

/// Bytes that are yet to come of the stream that an image comes from ([`Source`]), where that is known.
#[must_use]
pub fn rest() -> Option<u64> {
    let total = TOTAL.load(Ordering::Relaxed);
    let known = SOURCE_LEADS.load(Ordering::Relaxed) && total > 0;
    known.then(|| total.saturating_sub(DONE.load(Ordering::Relaxed)))
}

/// Ends what is shown on this machine, so that what is printed next has a line of its own.
pub fn end() {
    ENDED.store(true, Ordering::Relaxed);
    if let Some(thread) = SHOWING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        thread.thread().unpark();
        let _ = thread.join();
    }
}

/// Waits for `time`, but not beyond the moment when `ended` is set and the thread is unparked; whether it is not set yet.
fn wait(time: Duration, ended: &AtomicBool) -> bool {
    let until = Instant::now() + time;
    while !ended.load(Ordering::Relaxed) {
        match until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::park_timeout(left),
            _ => return true,
        }
    }
    false
}

/// Says how far the action is, on a line for oned's log.
pub fn tell_status() {
    let text = words::status(&now(), record::elapsed());
    write_error_line(&format!("INFO: {}: {text}", record::action()));
}
