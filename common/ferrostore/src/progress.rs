//! A progress bar for a person at a terminal, and only for what takes over half a second.
//!
//! Code that moves bytes, or works through images one by one, reports them with [`advance`]; oned, which reads standard error, sees nothing.

use disk_image::observer::{self, Advice, Observer};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::staging::no_space_hint;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

static DONE: AtomicU64 = AtomicU64::new(0);
static TOTAL: AtomicU64 = AtomicU64::new(0);
/// Whether images are counted, and not bytes.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Whether the bar is on the screen: whoever writes there holds this.
static SCREEN: Mutex<bool> = Mutex::new(false);
static ENDED: AtomicBool = AtomicBool::new(false);
/// The thread that draws. The bar is its own, so that a driver that has none holds no code for it.
static DRAWING: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// What the bytes of images report to.
struct Bar;

impl Observer for Bar {
    fn begin(&self, total: u64) {
        begin(total);
    }

    fn advance(&self, bytes: u64) {
        advance(bytes);
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

/// Has conversions of images report here.
pub fn install() {
    observer::set(&Bar);
}

/// Says that work on `total` bytes begins (0: unknown).
pub fn begin(total: u64) {
    TOTAL.store(total, Ordering::Relaxed);
    let mut drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    if drawing.is_none() && std::io::stderr().is_terminal() {
        // Without a thread there is no bar.
        *drawing = std::thread::Builder::new().spawn(draw).ok();
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
    const CLEAR_LINE: &[u8] = b"\r\x1b[2K";
    let mut on_screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *on_screen) {
        std::io::stderr().write_all(CLEAR_LINE)?;
    }
    write()
}

/// Says that so much more is done: bytes, or images.
pub fn advance(amount: u64) {
    DONE.fetch_add(amount, Ordering::Relaxed);
}

/// Takes the bar away, so that what is printed next has a line of its own.
pub fn end() {
    ENDED.store(true, Ordering::Relaxed);
    if let Some(thread) = DRAWING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        thread.thread().unpark();
        let _ = thread.join();
    }
}

/// Waits so long, but not beyond the end; whether there is more to draw.
fn wait(time: Duration) -> bool {
    let until = Instant::now() + time;
    while !ENDED.load(Ordering::Relaxed) {
        match until.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => std::thread::park_timeout(left),
            _ => return true,
        }
    }
    false
}

fn draw() {
    const BAR_OF_ALL: &str = "{bytes:>11} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left";
    const BAR_OF_IMAGES: &str = "{human_pos:>11} of {human_len} {wide_bar} {per_sec}, {eta} left";
    const SPINNER: &str = "{spinner} {bytes} at {bytes_per_sec}, {elapsed}";
    let styled = |bar: ProgressBar, template| match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    if !wait(Duration::from_millis(500)) {
        return;
    }
    let bar = match TOTAL.load(Ordering::Relaxed) {
        0 => styled(ProgressBar::new_spinner(), SPINNER),
        total if COUNTING.load(Ordering::Relaxed) => styled(ProgressBar::new(total), BAR_OF_IMAGES),
        total => styled(ProgressBar::new(total), BAR_OF_ALL),
    };
    loop {
        let mut on_screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
        bar.set_position(DONE.load(Ordering::Relaxed));
        bar.tick();
        *on_screen = true;
        drop(on_screen);
        if !wait(Duration::from_millis(100)) {
            break;
        }
    }
    bar.finish_and_clear();
}
