//! JSON (RFC 8259) as it is written here: text that is put together, without a library in every driver.

use std::fmt::Write as _;
use std::time::Duration;

/// A JSON string.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    text.chars().for_each(|character| push_escaped(&mut out, character));
    out.push('"');
    out
}

fn push_escaped(out: &mut String, character: char) {
    match character {
        '"' | '\\' => out.extend(['\\', character]),
        control if (control as u32) < 0x20 => {
            let _ = write!(out, "\\u{:04x}", control as u32);
        }
        other => out.push(other),
    }
}

/// A JSON object on one line, member by member.
#[derive(Debug)]
pub struct Object(String);

impl Default for Object {
    fn default() -> Self {
        Self("{".to_owned())
    }
}

impl Object {
    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0 += &quoted(name);
        self.0.push(':');
    }

    /// A text, of which no more than `longest` bytes are written; `…` stands for the rest.
    pub fn text(&mut self, name: &str, value: &str, longest: usize) {
        self.name(name);
        self.0.push('"');
        let start = self.0.len();
        for character in value.chars() {
            let before = self.0.len();
            push_escaped(&mut self.0, character);
            if self.0.len() - start > longest {
                self.0.truncate(before);
                self.0.push('…');
                break;
            }
        }
        self.0.push('"');
    }

    /// A number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.0, "{value}");
    }

    /// A time in seconds, to the microsecond.
    pub fn seconds(&mut self, name: &str, value: Duration) {
        self.name(name);
        let _ = write!(self.0, "{}.{:06}", value.as_secs(), value.subsec_micros());
    }

    /// True or false.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        let _ = write!(self.0, "{value}");
    }

    /// The whole object, with a line break.
    #[must_use]
    pub fn into_line(mut self) -> String {
        self.0 += "}\n";
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_quoted_as_json_asks() {
        assert_eq!(quoted("a\"b\\c\nd\u{e9}"), "\"a\\\"b\\\\c\\u000ad\u{e9}\"");
    }

    #[test]
    fn an_object_is_one_line() {
        let mut object = Object::default();
        object.text("a", "x\ny", 100);
        object.number("b", 7);
        object.seconds("c", Duration::from_micros(1_000_002));
        assert_eq!(object.into_line(), "{\"a\":\"x\\u000ay\",\"b\":7,\"c\":1.000002}\n");
        assert_eq!(Object::default().into_line(), "{}\n");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_never_within_an_escape() {
        for length in 0..12 {
            let mut object = Object::default();
            object.text("a", "é\n\u{1}é\"x", length);
            let line = object.into_line();
            let text = line.split_once(":\"").map_or("", |(_, rest)| rest);
            let text = text.trim_end_matches("\"}\n").trim_end_matches('…');
            assert!(text.len() <= length, "{line}");
            assert!("é\\u000a\\u0001é\\\"x".starts_with(text), "{line}");
        }
    }
}
