//! A progress bar for a person at a terminal, and only for what takes over half a second.
//!
//! Whoever moves bytes reports them with [`advance`]; oned, which reads standard error, sees nothing.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static DONE: AtomicU64 = AtomicU64::new(0);
static TOTAL: AtomicU64 = AtomicU64::new(0);
static BEGUN: AtomicBool = AtomicBool::new(false);
static ENDED: AtomicBool = AtomicBool::new(false);
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Says that work on `total` bytes begins (0 where nobody knows how many).
pub fn begin(total: u64) {
    TOTAL.store(total, Ordering::Relaxed);
    if BEGUN.swap(true, Ordering::Relaxed) || !std::io::stderr().is_terminal() {
        return;
    }
    // Whoever can't have a thread has no bar.
    let _ = std::thread::Builder::new().spawn(draw);
}

/// Says that `bytes` more are done.
pub fn advance(bytes: u64) {
    DONE.fetch_add(bytes, Ordering::Relaxed);
}

/// Takes the bar away, so that what is printed next has a line of its own.
pub fn end() {
    ENDED.store(true, Ordering::Relaxed);
    if let Some(bar) = BAR.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

fn draw() {
    const BAR_OF_ALL: &str = "{bytes:>11} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left";
    const SPINNER: &str = "{spinner} {bytes} at {bytes_per_sec}, {elapsed}";
    let styled = |bar: ProgressBar, template| match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    std::thread::sleep(Duration::from_millis(500));
    while !ENDED.load(Ordering::Relaxed) {
        {
            let mut slot = BAR.lock().unwrap_or_else(PoisonError::into_inner);
            let bar = slot.get_or_insert_with(|| match TOTAL.load(Ordering::Relaxed) {
                0 => styled(ProgressBar::new_spinner(), SPINNER),
                total => styled(ProgressBar::new(total), BAR_OF_ALL),
            });
            bar.set_position(DONE.load(Ordering::Relaxed));
            bar.tick();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    end();
}
