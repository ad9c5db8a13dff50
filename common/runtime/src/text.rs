//! Text of a message that need not be UTF-8.
//!
//! oned copies attribute values as bytes, and a path on Linux may hold any byte but NUL. Values are
//! kept as `String`, so a byte that isn't UTF-8 is carried as one character of a private-use range
//! (byte `b` as U+10F700 + `b`) and becomes that byte again wherever the value names a file.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

const CARRIER: u32 = 0x0010_F700;

/// Turns bytes into a `String`, carrying each byte that isn't UTF-8 as a private-use character.
#[must_use]
pub fn carry_bytes(bytes: Vec<u8>) -> String {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() + 64);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(
            chunk.invalid().iter().filter_map(|&byte| char::from_u32(CARRIER + u32::from(byte))),
        );
    }
    text
}

/// The bytes that a value stood for in the message.
#[must_use]
pub fn original_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match (character as u32).checked_sub(CARRIER) {
            Some(byte @ 0x80..=0xFF) => bytes.push(byte as u8),
            _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The path that a value names.
#[must_use]
pub fn path(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(original_bytes(text)))
}

/// A value as it is shown in an error: quoted, on one line, cut where it is long.
#[must_use]
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut out = String::from("\"");
    for (count, character) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match (character as u32).checked_sub(CARRIER) {
            Some(byte @ 0x80..=0xFF) => {
                let _ = write!(out, "\\x{byte:02x}");
            }
            _ if character == '"' || character == '\\' => out.extend(['\\', character]),
            _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                out.extend(character.escape_default());
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// Any text folded onto one line, for what other programs print.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    out
}

/// As [`one_line`], for a person to read: of what is longer than that, the middle is left out.
#[must_use]
pub fn readable_line(text: &str) -> String {
    const HEAD: usize = 1500;
    const TAIL: usize = 500;
    let line = one_line(text);
    let count = line.chars().count();
    if count <= HEAD + TAIL {
        return line;
    }
    let head = line.chars().take(HEAD);
    head.chain(['…']).chain(line.chars().skip(count - TAIL)).collect()
}

/// A number of things, in the singular where it is one: `1 image`, `2 images`.
#[must_use]
pub fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_survive_the_way_through_a_string() {
        let bytes = b"/images/caf\xe9 \xff\xc3\xa9".to_vec();
        let text = carry_bytes(bytes.clone());
        assert_eq!(original_bytes(&text), bytes);
    }

    #[test]
    fn a_shown_value_is_one_quoted_line() {
        assert_eq!(shown("a\nb\"c"), r#""a\nb\"c""#);
        assert_eq!(shown(&carry_bytes(vec![b'x', 0xff])), r#""x\xff""#);
    }

    #[test]
    fn a_line_too_long_to_read_has_its_middle_left_out() {
        assert_eq!(readable_line("a\nb"), "a; b");
        let long = readable_line(&format!("first {} last", "x".repeat(1 << 20)));
        assert!(long.starts_with("first x") && long.ends_with("x last") && long.contains('…'));
        assert_eq!(long.chars().count(), 2001);
    }

    #[test]
    fn output_of_other_programs_is_folded_onto_one_line() {
        assert_eq!(one_line("first\n\n  second\t\n"), "first; second");
    }
}
