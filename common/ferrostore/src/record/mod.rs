//! The record of a call: what it did, as one JSON line in a file for the administrator.
//!
//! The layers note facts as they come by ([`note`], [`moved`]); [`finish`] writes the line. Nothing here can make a call
//! fail or wait.

mod file;
mod numbers;
pub mod time;

pub use numbers::{Numbers, elsewhere, moved, numbers, resumed};

use crate::json::Object;
use one_protocol::message::Message;
use one_protocol::settings::Settings;
use runtime::text::{original_bytes, readable_line};
use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Space for an error and for a source in the line, bytes. With all the rest the line stays below 4 KiB, which is written
/// in one piece.
const LONGEST_ERROR: usize = 1400;
const LONGEST_SOURCE: usize = 900;
/// As much for every other text.
const LONGEST_WORD: usize = 96;
/// As much for what was verified: the longest digest and fingerprint.
const LONGEST_VERIFIED: usize = 224;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Success,
    /// With an error.
    Failure,
    /// The image was deleted meanwhile.
    Cancelled,
    /// By a signal.
    Stopped,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Cancelled, Self::Stopped];

    /// The word for it in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
        }
    }
}

/// What is known of the call besides numbers; empty where it is not known.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    /// The kind of the datastore.
    pub kind: String,
    /// `DATASTORE/ID`.
    pub datastore: Option<u64>,
    /// `IMAGE/ID`.
    pub image: Option<u64>,
    /// `IMAGE/PATH`, or `IMAGE/SOURCE` where there is no PATH; without passwords and keys.
    pub source: String,
    /// The format that the image had.
    pub format_in: String,
    /// The format that it has now.
    pub format_out: String,
    /// How it was compressed.
    pub compression: String,
    /// The SHA-256 digest of the image's bytes as they came, where that was computed.
    pub sha256: String,
    /// What was verified of the image, and by whom it is signed.
    pub verified: String,
    /// The bridge host that did the work.
    pub bridge: String,
}

/// The call of this process, until its line is written.
#[derive(Default)]
struct Call {
    facts: Facts,
    cancelled: bool,
    /// Whether another machine keeps the record.
    elsewhere: bool,
    /// Those of the action, which have read their files already.
    settings: Option<Settings>,
}

/// The action of this process, and when it began.
static BEGUN: OnceLock<(&str, Instant)> = OnceLock::new();
static CALL: Mutex<Option<Call>> = Mutex::new(None);

fn call() -> MutexGuard<'static, Option<Call>> {
    CALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins the record of a call of `action`.
pub fn begin(action: &'static str) {
    let _ = BEGUN.set((action, Instant::now()));
    *call() = Some(Call::default());
}

/// Leaves the record to the front-end, which called this driver and is told the facts.
pub fn leave_to_front_end() {
    if let Some(call) = call().as_mut() {
        call.elsewhere = true;
    }
}

/// Notes facts.
pub fn note(change: impl FnOnce(&mut Facts)) {
    if let Some(call) = call().as_mut() {
        change(&mut call.facts);
    }
}

/// Notes what the message says, and the settings by which the action is done. `redacted` takes what is secret out of a URL.
pub fn note_message(message: &Message, settings: &Settings, redacted: fn(&str) -> String) {
    if let Some(call) = call().as_mut() {
        call.settings = Some(settings.clone());
    }
    note(|facts| {
        facts.datastore = message.datastore().ok().and_then(|datastore| datastore.id);
        let Ok(image) = message.image() else { return };
        facts.image = image.id;
        let source = image.path().or_else(|_| image.source()).unwrap_or_default();
        facts.source = shown(&redacted(source));
        facts.format_in.clone_from(&image.format);
    });
}

/// Notes what `cp` or `clone` replies: `<path> <format>`; and what `mkfs` was asked for, whose reply has no format.
pub fn note_reply(reply: &[u8]) {
    let reply = String::from_utf8_lossy(reply);
    let format = reply.trim_end().rsplit_once(' ').map_or("", |(_, format)| format);
    note(|facts| match action() {
        "cp" | "clone" => format.clone_into(&mut facts.format_out),
        "mkfs" => facts.format_out = std::mem::take(&mut facts.format_in),
        _ => {}
    });
}

/// Notes that the image was deleted while the action was at work on it.
pub fn note_cancelled() {
    if let Some(call) = call().as_mut() {
        call.cancelled = true;
    }
}

/// The facts so far.
#[must_use]
pub fn facts() -> Facts {
    call().as_ref().map(|call| call.facts.clone()).unwrap_or_default()
}

/// The action of this process.
#[must_use]
pub fn action() -> &'static str {
    BEGUN.get().map_or("", |(action, _)| action)
}

/// For how long it has been at work.
#[must_use]
pub fn elapsed() -> Duration {
    BEGUN.get().map_or(Duration::ZERO, |(_, start)| start.elapsed())
}

/// Writes the line. Only the first ending of a call counts.
pub fn finish(ending: Ending, error: &str) {
    let Some(call) = self::call().take().filter(|call| !call.elsewhere) else { return };
    let ending =
        if call.cancelled && ending != Ending::Success { Ending::Cancelled } else { ending };
    let settings = call.settings.clone().unwrap_or_else(Settings::from_environment);
    let Some(path) = settings.call_log() else { return };
    file::append(&path, &line(&call, ending, error));
}

/// Bytes that were no UTF-8 in the message are shown as such.
fn shown(text: &str) -> String {
    String::from_utf8_lossy(&original_bytes(text)).into_owned()
}

fn line(call: &Call, ending: Ending, error: &str) -> String {
    let Facts {
        kind,
        datastore,
        image,
        source,
        format_in,
        format_out,
        compression,
        sha256,
        verified,
        bridge,
    } = &call.facts;
    let host = nix::sys::utsname::uname();
    let host = host.as_ref().map_or(Cow::default(), |name| name.nodename().to_string_lossy());
    let numbers = numbers();
    let mut object = Object::default();
    object.text("time", &time::written(SystemTime::now()), LONGEST_WORD);
    object.text("host", &host, LONGEST_WORD);
    object.text("action", action(), LONGEST_WORD);
    let mut known = |name, value: &str, longest| {
        if !value.is_empty() {
            object.text(name, value, longest);
        }
    };
    known("kind", kind, LONGEST_WORD);
    known("result", ending.name(), LONGEST_WORD);
    known("error", &readable_line(error), LONGEST_ERROR);
    known("source", source, LONGEST_SOURCE);
    known("format_in", format_in, LONGEST_WORD);
    known("compression", compression, LONGEST_WORD);
    known("format_out", format_out, LONGEST_WORD);
    known("sha256", sha256, LONGEST_WORD);
    known("verified", verified, LONGEST_VERIFIED);
    known("bridge", bridge, LONGEST_WORD);
    known("version", env!("CARGO_PKG_VERSION"), LONGEST_WORD);
    for (name, id) in [("datastore", datastore), ("image", image)] {
        if let Some(id) = id {
            object.number(name, *id);
        }
    }
    object.seconds("seconds", elapsed());
    object.seconds("lock_wait_seconds", numbers.lock_wait);
    object.number("bytes_read", numbers.read);
    object.number("bytes_written", numbers.written);
    object.number("bytes_shared", numbers.shared);
    object.number("bytes_zero", numbers.zero);
    object.number("resumed", numbers.resumed);
    object.into_line()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_with(text: &str) -> Call {
        let text = text.to_owned();
        let facts = Facts {
            kind: text.clone(),
            datastore: Some(u64::MAX),
            image: Some(u64::MAX),
            source: text.clone(),
            format_in: text.clone(),
            format_out: text.clone(),
            compression: text.clone(),
            sha256: text.clone(),
            verified: text.clone(),
            bridge: text,
        };
        Call { facts, ..Call::default() }
    }

    #[test]
    fn a_line_stays_below_four_kib_whatever_it_holds() {
        for text in ["x", "\u{1}", "\"", "é", "\u{10F7FF}"] {
            let long = text.repeat(5000);
            let line = line(&call_with(&long), Ending::Cancelled, &long);
            assert!(line.len() < 4096, "{} bytes of {text:?}", line.len());
            assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let line = line(&Call::default(), Ending::Success, "");
        for absent in ["error", "image", "source", "sha256", "bridge", "kind"] {
            assert!(!line.contains(&format!("\"{absent}\"")), "{line}");
        }
        assert!(
            line.contains("\"result\":\"success\"") && line.contains("\"bytes_read\":"),
            "{line}"
        );
    }
}
