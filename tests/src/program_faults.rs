//! Faults in a program that a driver runs: each write of it to the image fails in turn.
//!
//! A write is known by its call, its offset, its length and how often the same was written before, as a run
//! without a fault shows it: not by its number in a thread, since another one may make it next time. A run counts
//! for a write if its trace says that this write failed, and no other one before it; so runs are repeated until
//! each write was hit.

use crate::{Call, Cloud};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Calls by which a program changes a file, or is told that it couldn't.
const CALLS: [&str; 10] = [
    "pwrite64",
    "write",
    "pwritev",
    "pwritev2",
    "writev",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "close",
];

/// Of these, the calls that write data: where one fails, some programs try another one.
const WRITES: [&str; 5] = ["pwrite64", "write", "pwritev", "pwritev2", "writev"];

/// So often is every number of a call tried, until each call was hit.
const ROUNDS: usize = 12;

/// Programs make no difference between errors of a write.
const ERROR: &str = "ENOSPC";

/// A call of a driver that runs a program.
pub struct ProgramFaults<'a> {
    /// The datastore.
    pub cloud: &'a Cloud,
    /// The program by name, of which the last argument is the image.
    pub program: &'a str,
    /// Shell words: the arguments of the program's run that writes, where there are others: `"$@"` among them.
    pub arguments: &'a str,
    /// The call, which makes a new image.
    pub call: Call<'a>,
    /// Whether a new image is what was asked for.
    pub good: &'a dyn Fn(&Path) -> bool,
}

/// One call of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Step {
    call: String,
    /// Its arguments behind the file, without what is written.
    arguments: String,
    /// How many of the same came before it.
    before: usize,
}

/// What the trace of one run shows.
#[derive(Debug, Default)]
struct Trace {
    steps: Vec<Step>,
    /// Those of the steps that failed on purpose.
    failed: Vec<Step>,
    /// Most calls of a kind that one thread makes.
    most: HashMap<String, usize>,
}

impl ProgramFaults<'_> {
    /// Has every write fail: the image is good, or there is none and the driver has failed.
    pub fn inject(&self) {
        let Trace { steps, most, .. } = self.run("");
        assert!(!steps.is_empty(), "{}: the trace works", self.program);
        let mut left: HashSet<Step> = steps.iter().cloned().collect();
        let mut runs = 0;
        for round in 0..ROUNDS {
            for (call, &most_of_it) in &most {
                // Next time one thread may do what two did.
                let all = steps.iter().filter(|step| &step.call == call).count();
                for number in 1..=if round == 0 { most_of_it } else { all } {
                    if !left.iter().any(|step| &step.call == call) {
                        break;
                    }
                    let failed = self.run(&fault(call, number, &most)).failed;
                    let mut hit = failed.iter().filter(|step| &step.call == call);
                    if let (Some(step), None) = (hit.next(), hit.next()) {
                        left.remove(step);
                    }
                    runs += 1;
                }
            }
        }
        assert!(left.is_empty(), "{}: no run failed at {left:?} alone", self.program);
        println!("{}: {} calls, {runs} runs, 0 losses", self.program, steps.len());
    }

    /// Makes the call with a fault (arguments of strace) in the program, and checks what has become of it.
    fn run(&self, fault: &str) -> Trace {
        let log = self.cloud.root().join("program.trace");
        let _ = fs::remove_file(&log);
        let calls = CALLS.join(",");
        let Self { program, arguments, .. } = self;
        // Programs are looked for in /usr/local/sbin first. The log is open before the driver closes all files to
        // the program.
        let wrapper = format!(
            "#!/bin/sh\n\
             real=$(PATH=/usr/sbin:/usr/bin; command -v {program})\n\
             for image; do :; done\n\
             {arguments}\n\
             exec strace -f -qq -s 0 -P \"$image\" -e trace={calls} {fault} -o '|cat >&9' -- \"$real\" \"$@\"\n"
        );
        let file = self.cloud.root().join("wrapper");
        fs::write(&file, wrapper).unwrap();
        let script = format!(
            "mount -t tmpfs none /usr/local/sbin && \
             install -m 755 '{}' /usr/local/sbin/{program} && exec 9>>'{}' && exec \"$0\" \"$@\"",
            file.display(),
            log.display()
        );
        let before = self.images();
        let output = self.call.clone().under(["unshare", "--mount", "sh", "-c", &script]).output();
        let trace = parse(&fs::read_to_string(&log).expect("the program was run"));
        let new: Vec<PathBuf> =
            self.images().into_iter().filter(|image| !before.contains(image)).collect();
        let said = format!("{program} {fault}: {output:?}, failed: {:?}", trace.failed);
        match output.status.code() {
            Some(0) => {
                assert_eq!(new.len(), 1, "{said}: one new image");
                assert!((self.good)(&new[0]), "{said}: a wrong image is registered");
                fs::remove_file(&new[0]).unwrap();
            }
            Some(1) => {
                assert!(!trace.failed.is_empty(), "{said}: nothing failed");
                assert_eq!(new, Vec::<PathBuf>::new(), "{said}: a failure leaves nothing");
                let text = String::from_utf8_lossy(&output.stderr);
                assert_eq!(text.lines().count(), 1, "{said}: one line");
            }
            _ => panic!("{said}: an odd end"),
        }
        trace
    }

    fn images(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cloud.datastore()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// The arguments of strace for a fault in the call of this number, and in every way of writing that the program falls
/// back on: those that it doesn't use else.
fn fault(call: &str, number: usize, used: &HashMap<String, usize>) -> String {
    let mut fault = format!("-e inject={call}:error={ERROR}:when={number}");
    if WRITES.contains(&call) {
        let others: Vec<&str> =
            WRITES.into_iter().filter(|other| !used.contains_key(*other)).collect();
        fault += " -e inject=";
        fault += &others.join(",");
        fault += ":error=";
        fault += ERROR;
    }
    fault
}

fn parse(log: &str) -> Trace {
    let mut trace = Trace::default();
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    let mut unfinished: HashMap<&str, Step> = HashMap::new();
    for line in log.lines() {
        let Some((thread, text)) = line.split_once(char::is_whitespace) else { continue };
        let text = text.trim_start();
        let step = if text.starts_with("<... ") {
            unfinished.remove(thread)
        } else {
            let Some((call, rest)) = text.split_once('(') else { continue };
            let all = rest.rsplit_once(" = ").map_or(rest, |(all, _)| all.trim_end());
            let all = all.trim_end_matches("<unfinished ...>").trim_end().trim_end_matches(')');
            let arguments = all.split_once(", ");
            let arguments = arguments.map_or("", |(_, arguments)| arguments);
            let key = (call.to_owned(), arguments.trim().to_owned());
            let before = seen.entry(key.clone()).or_default();
            let step = Step { call: key.0, arguments: key.1, before: *before };
            *before += 1;
            *counts.entry((thread, call)).or_default() += 1;
            trace.steps.push(step.clone());
            Some(step)
        };
        let Some(step) = step else { continue };
        if text.ends_with("<unfinished ...>") {
            unfinished.insert(thread, step);
        } else if text.ends_with("(INJECTED)") {
            trace.failed.push(step);
        }
    }
    for ((_, call), count) in counts {
        let most = trace.most.entry(call.to_owned()).or_default();
        *most = count.max(*most);
    }
    trace
}
