//! Log lines in the form that oned takes into its own log: `LEVEL: text`, one line each.

use log::{LevelFilter, Log, Metadata, Record};
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

impl Log for StandardError {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        // The level is ERROR, WARN or INFO (the maximum set above), which are oned's words too.
        let text = readable_line(&record.args().to_string());
        write_error_line(&format!("{}: {text}", record.level()));
    }

    fn flush(&self) {}
}
