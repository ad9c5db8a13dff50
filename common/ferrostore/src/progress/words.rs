//! Progress in words.

use super::Now;
use std::time::Duration;

/// A number of bytes for a person.
#[must_use]
pub fn size(bytes: u64) -> String {
    let (number, name) = in_unit(bytes);
    let digits = match name {
        "KiB" | "MiB" => 0,
        "GiB" => 1,
        _ => 2,
    };
    format!("{number:.digits$} {name}")
}

/// As [`size`], for a number that grows before the reader's eyes.
#[must_use]
pub fn exact_size(bytes: u64) -> String {
    let (number, name) = in_unit(bytes);
    format!("{number:.2} {name}")
}

fn in_unit(bytes: u64) -> (f64, &'static str) {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let power = (1..UNITS.len()).take_while(|&power| bytes >> (10 * (power + 1)) > 0).count();
    (bytes as f64 / (1_u64 << (10 * (power + 1))) as f64, UNITS[power])
}

/// A time for a person: its two largest units.
#[must_use]
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Bytes a second, over the whole phase.
#[must_use]
pub fn rate(now: &Now) -> u64 {
    let seconds = now.time.as_secs_f64();
    if seconds > 0.0 { (now.done as f64 / seconds) as u64 } else { 0 }
}

/// How long the phase goes on at `rate` bytes a second; `None` where that can't be told.
#[must_use]
pub fn left(now: &Now, rate: u64) -> Option<Duration> {
    let rest = now.total.checked_sub(now.done).filter(|_| now.total > 0)?;
    let seconds = (rest.saturating_add(rate / 2)).checked_div(rate)?;
    Some(Duration::from_secs(seconds.max(u64::from(rest > 0))))
}

/// How far an action is that has been at work for `elapsed`.
#[must_use]
pub fn status(now: &Now, elapsed: Duration) -> String {
    status_at(now, elapsed, rate(now))
}

/// As [`status`], where the last `rate` is known, in bytes a second.
#[must_use]
pub fn status_at(now: &Now, elapsed: Duration, rate: u64) -> String {
    let speed = size(rate);
    match now {
        Now { done: 0, .. } => format!("at work for {}", time(elapsed)),
        Now { done, total: 0, .. } => format!("{} so far, {speed}/s", size(*done)),
        Now { done, total, .. } if done >= total => {
            format!("100 % of {}, finishing", size(*total))
        }
        Now { done, total, .. } => {
            let percent = (*done as f64 / *total as f64 * 100.0) as u64;
            let left = left(now, rate).map(|left| format!(", about {} left", time(left)));
            format!("{percent} % of {}, {speed}/s{}", size(*total), left.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes =
            [(0, "0 KiB"), (200 << 20, "200 MiB"), (12 * GIB, "12.0 GiB"), (3 << 40, "3.00 TiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(0, "0 s"), (60, "1 min"), (185, "3 min 5 s"), (7800, "2 h 10 min")]
        {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_status_says_what_is_known() {
        let say = |done, total| {
            let now = Now { done, total, time: Duration::from_secs(10) };
            status(&now, Duration::from_secs(12))
        };
        assert_eq!(say(3 * GIB, 12 * GIB), "25 % of 12.0 GiB, 307 MiB/s, about 30 s left");
        assert_eq!(say(3 * GIB, 0), "3.0 GiB so far, 307 MiB/s");
        assert_eq!(say(0, 12 * GIB), "at work for 12 s");
        assert_eq!(say(12 * GIB, 12 * GIB), "100 % of 12.0 GiB, finishing");
        let stalled = Now { done: GIB, total: 2 * GIB, time: Duration::from_secs(1) };
        assert_eq!(status_at(&stalled, Duration::ZERO, 0), "50 % of 2.0 GiB, 0 KiB/s");
    }
}
