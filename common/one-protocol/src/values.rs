//! Values of attributes and settings that are no plain text.

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

#[cfg(test)]
mod tests {
    use super::*;

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
