//! Text that stands in the place of a disk: what a web server sends as a login or error page.

/// Bytes that must be text for a file to be text, or all that it has: a disk has its boot code, or zeroes, there.
const BLOCK: usize = 512;

/// What markup the first bytes of a file are, and nothing else; `None`: they may be those of a disk.
#[must_use]
pub fn markup(head: &[u8]) -> Option<&'static str> {
    let mut block = head[..head.len().min(BLOCK)].to_vec();
    if block.starts_with(b"\xff\xfe") || block.starts_with(b"\xfe\xff") {
        // UTF-16, whose ASCII has a zero in each pair.
        block.drain(..2);
        block.retain(|&byte| byte != 0);
    }
    let text = block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&block);
    if text.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()) {
        return None;
    }
    let text = text.trim_ascii_start();
    let begins = |word: &str| {
        text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    if ["<!doctype html", "<html", "<head", "<body"].iter().any(|word| begins(word)) {
        return Some("HTML");
    }
    match text.split_first()? {
        (b'<', [next, ..]) if next.is_ascii_alphabetic() || b"!?".contains(next) => Some("XML"),
        (b'{', rest) if matches!(rest.trim_ascii_start(), [b'"' | b'}', ..]) => Some("JSON"),
        (b'[', rest) if matches!(rest.trim_ascii_start(), [b'"' | b'{' | b'[' | b']', ..]) => {
            Some("JSON")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_documents_are_recognised() {
        for (text, name) in [
            ("<!DOCTYPE html>\n<html>", "HTML"),
            ("\u{feff}\r\n <HTML lang=\"de\">", "HTML"),
            ("<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>", "XML"),
            ("<Error><Code>AccessDenied</Code></Error>", "XML"),
            ("<!-- a page -->", "XML"),
            ("{\"error\":\"not found\"}", "JSON"),
            ("{\n  \"message\": \"\u{fc}bel\"\n}\n", "JSON"),
            ("{}", "JSON"),
            ("[ {\"a\":1} ]", "JSON"),
        ] {
            assert_eq!(markup(text.as_bytes()), Some(name), "{text}");
            let long = text.to_owned() + &" x".repeat(1000);
            assert_eq!(markup(long.as_bytes()), Some(name), "{text}");
            let wide: Vec<u8> = ("\u{feff}".to_owned() + text.trim_start_matches('\u{feff}'))
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            let expected = if text.is_ascii() || text.starts_with('\u{feff}') {
                Some(name)
            } else {
                markup(&wide)
            };
            assert_eq!(markup(&wide), expected, "{text}");
        }
    }

    #[test]
    fn disks_that_hold_text_are_none() {
        let padded = |text: &str| [text.as_bytes(), &[0; 1024][..]].concat();
        for disk in [
            padded("<html>"),
            padded("{\"a\":1}"),
            [&[0; 512][..], b"<!DOCTYPE html>"].concat(),
            b"#!/bin/sh\n".to_vec(),
            b"plain text".to_vec(),
            b"<<< a disk >>>".to_vec(),
            b"{ not json".to_vec(),
            b"[section]\nkey=value".to_vec(),
            b"\xeb\x3c\x90".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(markup(&disk), None, "{disk:?}");
        }
    }
}
