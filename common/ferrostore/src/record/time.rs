//! Points in time as they stand in the record: RFC 3339, in UTC, to the millisecond.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 3600;

/// `2026-11-28T17:08:32.123Z`. A time before 1970 counts as 1970.
#[must_use]
pub fn written(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, date) = date_of(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millisecond = since.subsec_millis();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// The time since 1970 that [`written`] wrote, and nothing else.
#[must_use]
pub fn read(text: &str) -> Option<Duration> {
    let (date, rest) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = rest.split_once('.')?;
    let numbers = |text: &str, separator| {
        text.split(separator).map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    };
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), clock.as_slice()) else {
        return None;
    };
    let milliseconds = fraction.parse::<u64>().ok()?;
    let valid = (1970..10_000).contains(year)
        && (1..=12).contains(month)
        && (1..=31).contains(day)
        && *hour < 24
        && *minute < 60
        && *second < 60
        && milliseconds < 1000;
    let seconds = || day_of(*year, *month, *day) * DAY + hour * 3600 + minute * 60 + second;
    valid.then(|| Duration::from_millis(seconds() * 1000 + milliseconds))
}

/// Days up to the first of March of a year (years that begin in March end with the leap day).
fn days_to_march(year: u64) -> u64 {
    year * 365 + year / 4 - year / 100 + year / 400
}

/// Days from the first of March, in the year 0, to the first of January 1970.
const TO_1970: u64 = 719_468;

/// The day since 1970 that has this date.
fn day_of(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    days_to_march(year) + (153 * month + 2) / 5 + day - 1 - TO_1970
}

/// Year, month and day of a day since 1970.
fn date_of(day: u64) -> (u64, u64, u64) {
    let day = day + TO_1970;
    // Never too late by more than one year.
    let guess = day / 365;
    let year = (0..=guess).rev().find(|&year| days_to_march(year) <= day).unwrap_or(0);
    let rest = day - days_to_march(year);
    let month = (5 * rest + 2) / 153;
    let date = rest - (153 * month + 2) / 5 + 1;
    if month < 10 { (year, month + 3, date) } else { (year + 1, month - 9, date) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_795_885_712, "2026-11-28T17:08:32.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(written(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert_eq!(read(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn every_day_of_two_centuries_is_read_as_it_was_written() {
        let mut before = String::new();
        for day in 0..73_000 {
            let time = Duration::from_millis(day * DAY * 1000 + 7);
            let text = written(UNIX_EPOCH + time);
            assert_eq!(read(&text), Some(time), "{text}");
            assert!(before < text, "{before} comes before {text}");
            before = text;
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "2026-11-28", "2026-13-01T00:00:00.000Z", "2026-11-28T17:08:32.123"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
