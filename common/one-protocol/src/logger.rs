//! Log lines in the form that oned takes into its own log: `LEVEL: text`, one line each.

use log::{Level, LevelFilter, Log, Metadata, Record};
use runtime::sys::write_error_line;
use runtime::text::readable_line;

struct StandardError;

static LOGGER: StandardError = StandardError;

/// Sends what the `log` crate is given to standard error.
pub fn install() {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// A line of oned's log. oned takes a number at its start for that of an object and leaves it out, so there is a
/// word before it.
fn line(level: Level, text: &str) -> String {
    let text = readable_line(text);
    let word = if text.starts_with(|c: char| c.is_ascii_digit()) { "note: " } else { "" };
    format!("{level}: {word}{text}")
}

impl Log for StandardError {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        // The level is ERROR, WARN or INFO (the maximum set above), which are oned's words too.
        write_error_line(&line(record.level(), &record.args().to_string()));
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_begins_with_a_digit() {
        assert_eq!(line(Level::Warn, "10.9.8.7: gone"), "WARN: note: 10.9.8.7: gone");
        assert_eq!(line(Level::Info, "\n  20 %\n"), "INFO: note: 20 %");
        assert_eq!(line(Level::Error, "host 10.9.8.7"), "ERROR: host 10.9.8.7");
    }
}
