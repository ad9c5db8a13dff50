//! `ferrostore metrics`: the record as text for Prometheus (exposition format 0.0.4).

use super::calls::{self, Entry};
use super::{Done, Subcommand, print};
use crate::record::{Ending, time};
use clap::{Arg, ArgMatches, Command, value_parser};
use runtime::text::shown;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The subcommand.
pub const METRICS: Subcommand = Subcommand { command, run };

/// For the exporter, which runs as another user.
const MODE: u32 = 0o644;

const AFTER: &str = "\
Counters are those of the record as it is: they begin again where it is rotated, which Prometheus allows for. The
times of the last success and failure come out of the rotated file too.

Example, in a timer or in cron, for node_exporter --collector.textfile.directory=/var/lib/node_exporter:
  ferrostore metrics --textfile /var/lib/node_exporter/ferrostore.prom";

/// Why the text can't be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "--textfile {} can't be written: {source}; name a file in a directory that this user may write to",
    shown(&path.to_string_lossy())
)]
struct TextFileError {
    path: PathBuf,
    source: io::Error,
}

fn command() -> Command {
    Command::new("metrics")
        .about("Print counters of all calls for Prometheus.")
        .override_usage("ferrostore metrics [--textfile FILE] [--file FILE]...")
        .after_help(AFTER)
        .arg(
            Arg::new("textfile")
                .long("textfile")
                .value_name("FILE")
                .help("Write them to FILE (NAME.prom), which is replaced in one step, instead of printing them")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(calls::file_argument())
}

fn run(matches: &ArgMatches) -> Done {
    let files = calls::files(matches)?;
    let mut metrics = Metrics::default();
    for (number, file) in files.iter().enumerate() {
        let newest = number + 1 == files.len();
        calls::read(file, &mut |entry, _| metrics.add(&entry, newest))?;
    }
    let text = metrics.text();
    match matches.get_one::<PathBuf>("textfile") {
        None => print(&text)?,
        Some(path) => {
            replace(path, &text).map_err(|source| TextFileError { path: path.clone(), source })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts `text` in the place of the file at `path`, in one step.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // No name that the exporter reads.
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.set_permissions(Permissions::from_mode(MODE))
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Labels of a metric: datastore and action.
type Place = (String, String);

#[derive(Default)]
struct Metrics {
    sums: BTreeMap<(Place, String), Sums>,
    successes: BTreeMap<Place, f64>,
    failures: BTreeMap<Place, f64>,
}

#[derive(Default)]
struct Sums {
    calls: u64,
    seconds: f64,
    lock_wait: f64,
    /// In the order of [`DIRECTIONS`].
    bytes: [u64; 4],
}

const DIRECTIONS: [&str; 4] = ["read", "written", "shared", "zero"];

impl Metrics {
    /// Takes a call in; an old one only for the times of the last success and failure.
    fn add(&mut self, entry: &Entry, counts: bool) {
        let datastore = entry.datastore.map(|id| id.to_string()).unwrap_or_default();
        let place = (datastore, entry.action.clone());
        let last = match entry.result.as_str() {
            result if result == Ending::Success.name() => Some(&mut self.successes),
            result if result == Ending::Failure.name() => Some(&mut self.failures),
            _ => None,
        };
        if let (Some(last), Some(time)) = (last, time::read(&entry.time)) {
            let last = last.entry(place.clone()).or_default();
            *last = last.max(time.as_secs_f64());
        }
        if !counts {
            return;
        }
        let sums = self.sums.entry((place, entry.result.clone())).or_default();
        sums.calls += 1;
        sums.seconds += entry.seconds;
        sums.lock_wait += entry.lock_wait_seconds;
        let bytes = [entry.bytes_read, entry.bytes_written, entry.bytes_shared, entry.bytes_zero];
        for (sum, bytes) in sums.bytes.iter_mut().zip(bytes) {
            *sum = sum.saturating_add(bytes);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.counter(&mut text, "calls_total", "Calls of drivers.", &|sums| sums.calls as f64);
        self.counter(&mut text, "call_seconds_total", "Time that calls took.", &|sums| {
            sums.seconds
        });
        self.counter(
            &mut text,
            "lock_wait_seconds_total",
            "Time of that in which calls waited for locks.",
            &|sums| sums.lock_wait,
        );
        head(&mut text, "bytes_total", "counter", "Bytes of images that calls moved.");
        for ((place, result), sums) in &self.sums {
            for (direction, bytes) in DIRECTIONS.iter().zip(sums.bytes) {
                let labels = format!("{},direction=\"{direction}\"", labels(place, Some(result)));
                let _ = writeln!(text, "ferrostore_bytes_total{{{labels}}} {bytes}");
            }
        }
        for (name, times, help) in [
            ("last_success_timestamp_seconds", &self.successes, "When the last call succeeded."),
            ("last_failure_timestamp_seconds", &self.failures, "When the last call failed."),
        ] {
            head(&mut text, name, "gauge", help);
            for (place, time) in times {
                let _ = writeln!(text, "ferrostore_{name}{{{}}} {time:.3}", labels(place, None));
            }
        }
        text
    }

    fn counter(&self, text: &mut String, name: &str, help: &str, value: &dyn Fn(&Sums) -> f64) {
        head(text, name, "counter", help);
        for ((place, result), sums) in &self.sums {
            let labels = labels(place, Some(result));
            let _ = writeln!(text, "ferrostore_{name}{{{labels}}} {}", value(sums));
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP ferrostore_{name} {help}\n# TYPE ferrostore_{name} {kind}");
}

/// The labels, the datastore's as OpenNebula's own exporter has it.
fn labels((datastore, action): &Place, result: Option<&String>) -> String {
    let mut text =
        format!("one_datastore_id=\"{}\",action=\"{}\"", escaped(datastore), escaped(action));
    if let Some(result) = result {
        let _ = write!(text, ",result=\"{}\"", escaped(result));
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(result: &str, seconds: f64) -> Entry {
        Entry {
            time: "1970-01-01T00:01:00.500Z".into(),
            action: "cp".into(),
            result: result.into(),
            datastore: Some(1),
            seconds,
            bytes_read: 10,
            ..Entry::default()
        }
    }

    #[test]
    fn calls_are_summed_by_datastore_action_and_result() {
        let mut metrics = Metrics::default();
        metrics.add(&call("success", 1.5), true);
        metrics.add(&call("success", 2.0), true);
        metrics.add(&call("failure", 9.0), false);
        let text = metrics.text();
        let labels = "one_datastore_id=\"1\",action=\"cp\"";
        for line in [
            format!("ferrostore_calls_total{{{labels},result=\"success\"}} 2"),
            format!("ferrostore_call_seconds_total{{{labels},result=\"success\"}} 3.5"),
            format!("ferrostore_bytes_total{{{labels},result=\"success\",direction=\"read\"}} 20"),
            format!("ferrostore_last_success_timestamp_seconds{{{labels}}} 60.500"),
            format!("ferrostore_last_failure_timestamp_seconds{{{labels}}} 60.500"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} should be in\n{text}");
        }
        assert!(!text.contains("result=\"failure\""), "an old call is not counted: {text}");
    }

    #[test]
    fn odd_values_stay_within_their_labels() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
