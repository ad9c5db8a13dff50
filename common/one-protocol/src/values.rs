//! Values of attributes and settings that are no plain text.

use std::time::Duration;

/// Yes or no, as oned and people write it; `None` for anything else.
#[must_use]
pub fn parse_yes_no(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "1" => Some(true),
        "no" | "n" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// A number of bytes above 0, with a suffix K, M, G, T or P (powers of 1024) if wanted; `None` for anything else.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return None,
    };
    let number: u64 = digits.trim_end().parse().ok()?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

/// What [`parse_retention`] takes.
pub const RETENTION: &str =
    "a whole number of hours, days or weeks, as in 48h, 7d or 2w, at most 520w, or no";

/// How long something is kept: a whole number with `h`, `d` or `w`; nothing at all for `no` and 0. `None` for anything
/// else.
#[must_use]
pub fn parse_retention(text: &str) -> Option<Duration> {
    const HOUR: u64 = 3600;
    const LONGEST: u64 = 520 * 7 * 24 * HOUR;
    let text = text.trim().to_ascii_lowercase();
    if parse_yes_no(&text) == Some(false) {
        return Some(Duration::ZERO);
    }
    let unit = match text.chars().last()? {
        'h' => HOUR,
        'd' => 24 * HOUR,
        'w' => 7 * 24 * HOUR,
        _ => return None,
    };
    let digits = text[..text.len() - 1].trim_end();
    let number: u64 =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(unit).filter(|&seconds| seconds <= LONGEST).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_hours_days_or_weeks() {
        for (text, hours) in [
            ("1h", 1),
            ("48H", 48),
            ("7d", 168),
            (" 2 w ", 336),
            ("no", 0),
            ("0", 0),
            ("0d", 0),
            ("520w", 87_360),
        ] {
            let expected = Some(Duration::from_secs(hours * 3600));
            assert_eq!(parse_retention(text), expected, "{text}");
        }
        for text in [
            "",
            "7",
            "d",
            "yes",
            "1m",
            "1.5d",
            "-1d",
            "+1d",
            "521w",
            "99999999999999999w",
            "7dd",
            "é",
        ] {
            assert_eq!(parse_retention(text), None, "{text}");
        }
    }

    #[test]
    fn yes_and_no_are_written_in_several_ways() {
        for (yes, no) in
            [("YES", "NO"), ("y", "n"), ("True", "False"), ("1", "0"), (" yes ", "no\n")]
        {
            assert_eq!((parse_yes_no(yes), parse_yes_no(no)), (Some(true), Some(false)));
        }
        for text in ["", "si", "yesno", "2"] {
            assert_eq!(parse_yes_no(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_of_bytes_take_the_suffixes_k_to_p() {
        for (text, number) in [
            ("1", 1),
            ("512K", 512 << 10),
            ("10k", 10 << 10),
            ("2 M", 2 << 20),
            ("64T", 64 << 40),
            ("2p", 2 << 50),
        ] {
            assert_eq!(parse_bytes(text), Some(number), "{text}");
        }
        for text in ["", "0", "M", "-1", "+ 1", "1E", "99999P", "99999999999999G", "TT", "1MM", "é"]
        {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
