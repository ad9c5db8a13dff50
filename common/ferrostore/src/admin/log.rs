//! `ferrostore log`: the last, the slowest or the failed calls.

use super::calls::{self, Entry};
use super::{Done, Subcommand, print};
use crate::progress::words::size;
use crate::record::Ending;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use runtime::text::one_line;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::process::ExitCode;

/// The subcommand.
pub const LOG: Subcommand = Subcommand { command, run };

/// So many calls are shown where that is not said.
const USUAL: &str = "20";
/// No more are kept in memory.
const MOST: u64 = 100_000;

const AFTER: &str = "\
The record is /var/log/one/ferrostore.jsonl, or what CALL_LOG in datastore.conf says. It is read with the file that
it was rotated to last. Each line is one call: when it ended (UTC), how it went, how long it took, what was moved.

Examples:
  ferrostore log --slowest --action cp
  ferrostore log --failed --datastore 1
  ferrostore log --image 413 --json | jq .";

fn command() -> Command {
    let number = |name: &'static str, value: &'static str, help: &'static str| {
        let parser = value_parser!(u64);
        Arg::new(name).long(name).value_name(value).help(help).value_parser(parser)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    Command::new("log")
        .about("Show what the drivers did: the last calls, the slowest, or those that failed.")
        .override_usage("ferrostore log [OPTIONS]")
        .after_help(AFTER)
        .arg(
            number("last", "N", "Show so many calls, the last ones")
                .default_value(USUAL)
                .value_parser(value_parser!(u64).range(1..=MOST)),
        )
        .arg(flag("slowest", "Show the slowest calls instead of the last, slowest first"))
        .arg(flag("failed", "Only calls that did not succeed"))
        .arg(number("image", "ID", "Only calls for this image"))
        .arg(number("datastore", "ID", "Only calls in this datastore"))
        .arg(Arg::new("action").long("action").value_name("NAME").help("Only this action"))
        .arg(flag("json", "Print the lines of the record as they are"))
        .arg(calls::file_argument())
}

fn run(matches: &ArgMatches) -> Done {
    let count = matches.get_one::<u64>("last").copied().unwrap_or(1) as usize;
    let mut chosen = Chosen { slowest: matches.get_flag("slowest"), count, calls: VecDeque::new() };
    for file in calls::files(matches)? {
        calls::read(&file, &mut |entry, line| {
            if is_wanted(&entry, matches) {
                chosen.add(entry, line);
            }
        })?;
    }
    let json = matches.get_flag("json");
    let mut text = String::new();
    for (entry, line) in chosen.calls {
        if json {
            text += &line;
            text.push('\n');
        } else {
            text += &described(&entry);
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn is_wanted(entry: &Entry, matches: &ArgMatches) -> bool {
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let same = |wanted: Option<u64>, is: Option<u64>| wanted.is_none() || wanted == is;
    same(number("image"), entry.image)
        && same(number("datastore"), entry.datastore)
        && matches.get_one::<String>("action").is_none_or(|action| *action == entry.action)
        && !(matches.get_flag("failed") && entry.result == Ending::Success.name())
}

/// The calls to be shown.
struct Chosen {
    slowest: bool,
    count: usize,
    calls: VecDeque<(Entry, String)>,
}

impl Chosen {
    fn add(&mut self, entry: Entry, line: &str) {
        if self.slowest {
            let place = self.calls.partition_point(|(other, _)| other.seconds >= entry.seconds);
            if place < self.count {
                self.calls.insert(place, (entry, line.to_owned()));
                self.calls.truncate(self.count);
            }
        } else {
            self.calls.push_back((entry, line.to_owned()));
            if self.calls.len() > self.count {
                self.calls.pop_front();
            }
        }
    }
}

fn described(entry: &Entry) -> String {
    let time = entry.time.split('.').next().unwrap_or_default().replace('T', " ");
    let mut text =
        format!("{time}  {:12} {:9} {:>9.3} s", entry.action, entry.result, entry.seconds);
    for (name, id) in [("image", entry.image), ("datastore", entry.datastore)] {
        if let Some(id) = id {
            let _ = write!(text, "  {name} {id}");
        }
    }
    for (bytes, what) in [
        (entry.bytes_read, "read"),
        (entry.bytes_written, "written"),
        (entry.bytes_shared, "shared"),
        (entry.bytes_zero, "zero"),
    ] {
        if bytes > 0 {
            let _ = write!(text, "  {} {what}", size(bytes));
        }
    }
    if entry.lock_wait_seconds >= 0.1 {
        let _ = write!(text, "  {:.1} s waiting for locks", entry.lock_wait_seconds);
    }
    if entry.resumed > 0 {
        let _ = write!(text, "  resumed {} times", entry.resumed);
    }
    for (name, value) in [("bridge", &entry.bridge), ("from", &entry.source)] {
        if !value.is_empty() {
            let _ = write!(text, "  {name} {value}");
        }
    }
    let mut text = one_line(&text) + "\n";
    if !entry.error.is_empty() {
        let _ = writeln!(text, "    {}", one_line(&entry.error));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_of(slowest: bool, count: usize, seconds: &[f64]) -> Vec<f64> {
        let mut chosen = Chosen { slowest, count, calls: VecDeque::new() };
        for &seconds in seconds {
            chosen.add(Entry { seconds, ..Entry::default() }, "");
        }
        chosen.calls.into_iter().map(|(entry, _)| entry.seconds).collect()
    }

    #[test]
    fn the_last_come_in_order_and_the_slowest_come_first() {
        let seconds = [3.0, 1.0, 5.0, 5.0, 2.0];
        assert_eq!(seconds_of(false, 2, &seconds), [5.0, 2.0]);
        assert_eq!(seconds_of(true, 3, &seconds), [5.0, 5.0, 3.0]);
        assert_eq!(seconds_of(true, 9, &seconds), [5.0, 5.0, 3.0, 2.0, 1.0]);
    }

    #[test]
    fn a_call_is_one_line_and_its_error_another() {
        let entry = Entry {
            time: "2026-11-28T17:08:32.123Z".into(),
            action: "cp".into(),
            result: "failure".into(),
            error: "cp: no\nspace".into(),
            image: Some(413),
            seconds: 65.25,
            bytes_read: 12 << 30,
            ..Entry::default()
        };
        let text = described(&entry);
        assert_eq!(
            text,
            "2026-11-28 17:08:32  cp           failure      65.250 s  image 413  12.0 GiB read\n    cp: no; space\n"
        );
    }
}
