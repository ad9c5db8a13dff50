//! The record of calls, as it is read: line by line, whatever stands in it.

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use one_protocol::settings::Settings;
use runtime::text::shown;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// A line is never longer, bytes: twice what is written.
const LONGEST: u64 = 8 << 10;
/// What every line begins with. A line that was cut off on a full disk has the next one behind it.
const BEGINNING: &str = "{\"time\":";

/// Why the record can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// There is none.
    #[error(
        "CALL_LOG=no in datastore.conf: no record is kept; give a file with --file, or take that line out"
    )]
    Off,
    /// A file can't be read.
    #[error("the record {} can't be read: {source}; give another with --file", shown(&path.to_string_lossy()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One call. What is missing in a line has its default here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    /// When it ended.
    pub(super) time: String,
    /// The action.
    pub(super) action: String,
    /// How it ended.
    pub(super) result: String,
    /// Why it failed.
    pub(super) error: String,
    /// `DATASTORE/ID`.
    pub(super) datastore: Option<u64>,
    /// `IMAGE/ID`.
    pub(super) image: Option<u64>,
    /// How long it took.
    pub(super) seconds: f64,
    /// How long of that it waited for locks.
    pub(super) lock_wait_seconds: f64,
    /// Where the image came from.
    pub(super) source: String,
    /// The bridge host.
    pub(super) bridge: String,
    /// Bytes read.
    pub(super) bytes_read: u64,
    /// Bytes written.
    pub(super) bytes_written: u64,
    /// Bytes shared by reflink.
    pub(super) bytes_shared: u64,
    /// Zero bytes left out.
    pub(super) bytes_zero: u64,
    /// How often a download went on.
    pub(super) resumed: u64,
}

/// The option that names other files than the record of this installation.
pub(super) fn file_argument() -> Arg {
    Arg::new("file")
        .long("file")
        .value_name("FILE")
        .help("Read this record instead of the installation's; repeat it for several, oldest first")
        .action(ArgAction::Append)
        .value_parser(value_parser!(PathBuf))
}

/// The files to read, oldest first: those that `matches` name, or the record of this installation and the one that it was
/// rotated to last.
pub(super) fn files(matches: &ArgMatches) -> Result<Vec<PathBuf>, RecordError> {
    if let Some(files) = matches.get_many::<PathBuf>("file") {
        return Ok(files.cloned().collect());
    }
    let current = Settings::from_environment().call_log().ok_or(RecordError::Off)?;
    let mut rotated = current.clone().into_os_string();
    rotated.push(".1");
    let rotated = PathBuf::from(rotated);
    Ok([rotated, current].into_iter().filter(|path| path.exists()).collect())
}

/// Gives every call in `path` to `take`, with its line. What is no record is passed over.
pub(super) fn read(path: &Path, take: &mut dyn FnMut(Entry, &str)) -> Result<(), RecordError> {
    let unreadable = |source| RecordError::Unreadable { path: path.to_owned(), source };
    let mut from = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut bytes = Vec::new();
    let mut whole = true;
    loop {
        bytes.clear();
        if (&mut from).take(LONGEST).read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            return Ok(());
        }
        let complete = bytes.ends_with(b"\n");
        let text = String::from_utf8_lossy(&bytes);
        // The rest of a line that is too long is none of its own.
        if let Some((entry, line)) = entry_of(&text).filter(|_| whole && complete) {
            take(entry, line);
        }
        whole = complete;
    }
}

/// The record in a line, or in its end.
fn entry_of(line: &str) -> Option<(Entry, &str)> {
    let line = line.trim_end();
    let line = &line[line.rfind(BEGINNING)?..];
    Some((serde_json::from_str(line).ok()?, line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_record_is_passed_over() {
        let good = "{\"time\":\"t\",\"action\":\"cp\",\"seconds\":1.5,\"new\":[1]}";
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(3 * LONGEST as usize);
        let text = format!(
            "{good}\nnonsense\n{{\"time\":\"cut off{good}\n{long}{good}\n\u{fffd}\n{{\"time\":5}}\n{good}"
        );
        std::fs::write(file.path(), text).unwrap();
        let mut lines = Vec::new();
        read(file.path(), &mut |entry, line| {
            assert_eq!((entry.action.as_str(), entry.seconds), ("cp", 1.5));
            lines.push(line.to_owned());
        })
        .unwrap();
        // The last line is not complete yet.
        assert_eq!(lines, [good, good]);
    }
}
