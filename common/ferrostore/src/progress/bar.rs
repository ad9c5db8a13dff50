//! A bar at a terminal, for what takes over half a second. It is one line that is written again and again; a crate for
//! it would cost each driver 45 KB and, as it needs libm, each call a tenth of a millisecond.

use super::{CLEAR_LINE, COUNTING, ENDED, Now, SCREEN, now, wait, words};
use runtime::sys::terminal_width;
use std::io::{self, Write as _};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

const TURNING: [char; 4] = ['-', '\\', '|', '/'];

/// Draws until the end.
pub(super) fn show() {
    if !wait(Duration::from_millis(500), &ENDED) {
        return;
    }
    for turn in 0_usize.. {
        draw(turn);
        if !wait(Duration::from_millis(100), &ENDED) {
            break;
        }
    }
    // What is printed next has a line of its own.
    let _ = super::beside_bar(|| Ok(()));
}

fn draw(turn: usize) {
    let mut on_screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    let stderr = io::stderr();
    let width = terminal_width(&stderr).unwrap_or(80);
    let line = line(&now(), COUNTING.load(Ordering::Relaxed), TURNING[turn % TURNING.len()], width);
    // A terminal that has gone away ends the action in other ways.
    let _ = write!(stderr.lock(), "{CLEAR_LINE}{line}");
    *on_screen = true;
}

/// What stands on the screen: never in its last column, where some terminals begin another line.
fn line(now: &Now, counting: bool, turning: char, width: usize) -> String {
    let amount = |amount| if counting { format!("{amount}") } else { words::exact_size(amount) };
    let rate = words::rate(now);
    let speed = if counting { format!("{rate}/s") } else { format!("{}/s", words::size(rate)) };
    let left = words::left(now, rate);
    let left = left.map(|left| format!(", {} left", words::time(left))).unwrap_or_default();
    let columns = width.saturating_sub(1);
    let mut line = if now.total == 0 {
        format!("{turning} {} at {speed}, {}", amount(now.done), words::time(now.time))
    } else {
        let before = format!("{:>11} of {}", amount(now.done), amount(now.total));
        let after = format!("{speed}{left}");
        let marks = columns.saturating_sub(before.len() + after.len() + 4);
        let full = (now.done.min(now.total) as f64 / now.total as f64 * marks as f64) as usize;
        format!("{before} [{}{}] {after}", "#".repeat(full), ".".repeat(marks - full))
    };
    line.truncate(columns);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(done: u64, total: u64) -> Now {
        Now { done, total, time: Duration::from_secs(10) }
    }

    #[test]
    fn the_bar_is_as_long_as_its_part_of_all() {
        let line = line(&at(30 * MIB, 40 * MIB), false, '-', 80);
        assert_eq!(line.len(), 79, "{line}");
        assert!(line.starts_with("  30.00 MiB of 40.00 MiB [###"), "{line}");
        assert!(line.ends_with("...] 3 MiB/s, 3 s left"), "{line}");
        let bar = line.split(['[', ']']).nth(1).unwrap_or_default();
        assert_eq!(bar.matches('#').count(), bar.len() * 3 / 4, "{line}");
    }

    #[test]
    fn images_are_counted_and_what_has_no_end_turns() {
        let images = line(&at(50, 200), true, '-', 60);
        assert!(
            images.starts_with("         50 of 200 [#") && images.ends_with(" left"),
            "{images}"
        );
        assert_eq!(line(&at(20 * MIB, 0), false, '|', 80), "| 20.00 MiB at 2 MiB/s, 10 s");
    }

    #[test]
    fn a_line_never_fills_the_screen() {
        for width in 0..100 {
            for now in
                [at(0, 0), at(0, MIB), at(MIB, MIB), at(2 * MIB, MIB), at(u64::MAX, u64::MAX)]
            {
                let line = line(&now, false, '-', width);
                assert!(line.len() < width.max(1), "{width}: {line}");
            }
        }
    }
}
