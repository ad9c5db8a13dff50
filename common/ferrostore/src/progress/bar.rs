//! A bar at a terminal, for what takes over half a second.

use super::{COUNTING, ENDED, SCREEN, now, wait};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BAR_OF_ALL: &str = "{bytes:>11} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left";
const BAR_OF_IMAGES: &str = "{human_pos:>11} of {human_len} {wide_bar} {per_sec}, {eta} left";
const SPINNER: &str = "{spinner} {bytes} at {bytes_per_sec}, {elapsed}";

/// Draws until the end.
pub(super) fn show() {
    if !wait(Duration::from_millis(500), &ENDED) {
        return;
    }
    let mut total = now().total;
    let mut bar = bar_of(total);
    loop {
        let mut on_screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        if now.total != total {
            bar.finish_and_clear();
            total = now.total;
            bar = bar_of(total);
        }
        bar.set_position(now.done);
        bar.tick();
        *on_screen = true;
        drop(on_screen);
        if !wait(Duration::from_millis(100), &ENDED) {
            break;
        }
    }
    bar.finish_and_clear();
}

fn bar_of(total: u64) -> ProgressBar {
    let (bar, template) = match total {
        0 => (ProgressBar::new_spinner(), SPINNER),
        total if COUNTING.load(Ordering::Relaxed) => (ProgressBar::new(total), BAR_OF_IMAGES),
        total => (ProgressBar::new(total), BAR_OF_ALL),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
