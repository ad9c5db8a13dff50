//! A bar at a terminal, for what takes over half a second.

use super::{COUNTING, ENDED, Now, SCREEN, now, wait, words};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BAR_OF_ALL: &str = "{bytes:>11} of {total_bytes} {wide_bar} {msg}";
const BAR_OF_IMAGES: &str = "{human_pos:>11} of {human_len} {wide_bar} {msg}";
const SPINNER: &str = "{spinner} {bytes} at {msg}, {elapsed}";

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
        bar.set_message(speed(&now));
        bar.tick();
        *on_screen = true;
        drop(on_screen);
        if !wait(Duration::from_millis(100), &ENDED) {
            break;
        }
    }
    bar.finish_and_clear();
}

/// Rate and time left, as oned is told. The bar itself only knows what has been done since it is there.
fn speed(now: &Now) -> String {
    let rate = words::rate(now);
    let text = if COUNTING.load(Ordering::Relaxed) {
        format!("{rate}/s")
    } else {
        format!("{}/s", words::size(rate))
    };
    match words::left(now, rate) {
        Some(left) => format!("{text}, {} left", words::time(left)),
        None => text,
    }
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
