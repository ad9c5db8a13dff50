//! Fault injection: every system call by which a driver changes something, and what happens to it.

use crate::{Call, Cloud};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::Output;

/// System calls that change a file, a directory or what is on the disk of them; also those that give the
/// reply. The mark says that a machine without such a call is none the worse.
const CHANGES: [&str; 43] = [
    "open",
    "openat",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "sendfile",
    "splice",
    "copy_file_range",
    "ioctl",
    "truncate",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
];

/// Calls that come in long runs of their like: of such a run, the first, the second, one in the middle
/// and the last stand for all.
const REPETITIVE: [&str; 6] =
    ["write", "pwrite64", "pwritev", "copy_file_range", "ioctl", "sendfile"];

/// One system call of a driver, or of a program that it runs.
#[derive(Clone, Debug)]
pub struct Point {
    call: String,
    number: u32,
    /// Whether the driver's first thread makes it; else another thread or a program that it runs, of which
    /// each time another one may come to it, or none.
    pub first_thread: bool,
    /// The call with its arguments, as strace prints it.
    pub text: String,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The driver is killed right before the call.
    Kill,
    /// The call fails with this error.
    Error(&'static str),
}

impl Fault {
    /// All that are tried.
    pub const ALL: [Self; 4] =
        [Self::Kill, Self::Error("ENOSPC"), Self::Error("EIO"), Self::Error("EROFS")];
}

impl Point {
    /// The arguments of strace that inject the fault.
    pub fn strace(&self, fault: Fault) -> Vec<String> {
        let call = &self.call;
        let what = match fault {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Error(name) => format!("error={name}"),
        };
        let mut arguments = vec!["strace".to_owned()];
        if !self.first_thread {
            arguments.push("-f".to_owned());
        }
        arguments.extend(["-qq", "-o", "/dev/null", "-e"].map(str::to_owned));
        arguments.push(format!("trace={call}"));
        arguments.push("-e".to_owned());
        arguments.push(format!("inject={call}:{what}:when={}", self.number));
        arguments
    }
}

/// Makes the call once without a fault; its points and what it gave.
pub fn points(cloud: &Cloud, call: &Call) -> (Vec<Point>, Output) {
    let log = cloud.root().join("trace");
    let calls = CHANGES.map(|call| format!("?{call}")).join(",");
    let strace =
        ["strace", "-f", "-qq", "-s", "40", "-o", log.to_str().unwrap(), "-e"].map(str::to_owned);
    let wrapper = strace.into_iter().chain([format!("trace={calls}")]);
    let output = call.clone().under(wrapper).output();
    let text = fs::read(&log).expect("strace writes its log");
    (parse(&String::from_utf8_lossy(&text)), output)
}

fn parse(log: &str) -> Vec<Point> {
    let mut counts: HashMap<(&str, &str), u32> = HashMap::new();
    let mut first = None;
    let mut woken = HashSet::new();
    // The points of each thread, in its own order, as runs of the same call.
    let mut runs: Vec<(&str, Vec<Point>)> = Vec::new();
    for line in log.lines() {
        let Some((thread, text)) = line.split_once(char::is_whitespace) else { continue };
        let text = text.trim_start();
        let Some((call, _)) = text.split_once('(').filter(|(call, _)| CHANGES.contains(call))
        else {
            continue;
        };
        let first = *first.get_or_insert(thread);
        let number = counts.entry((thread, call)).or_default();
        *number += 1;
        let changes = match call {
            // Threads of a program that wake each other: no file.
            "write" if text.contains(r"\1\0\0\0\0\0\0\0") => {
                woken.insert(*number);
                false
            }
            "open" | "openat" => text.contains("O_CREAT"),
            "ioctl" => text.contains("FICLONE"),
            _ => true,
        };
        if !changes {
            continue;
        }
        let point = Point {
            call: call.to_owned(),
            number: *number,
            first_thread: thread == first,
            text: text.to_owned(),
        };
        let run = runs.iter_mut().rev().find(|(of, _)| *of == thread);
        match run {
            Some((_, run)) if run[0].call == call && REPETITIVE.contains(&call) => run.push(point),
            _ => runs.push((thread, vec![point])),
        }
    }
    let mut points: Vec<Point> = Vec::new();
    for (_, run) in runs {
        let last = run.len() - 1;
        let mut chosen = if last < 4 { (0..=last).collect() } else { vec![0, 1, last / 2, last] };
        chosen.dedup();
        points.extend(chosen.into_iter().map(|index| run[index].clone()));
    }
    // The n-th call of a kind is the same fault for every thread but the first.
    let mut seen = std::collections::HashSet::new();
    points.retain(|point| {
        let wakes = point.call == "write" && woken.contains(&point.number);
        point.first_thread || (!wakes && seen.insert((point.call.clone(), point.number)))
    });
    points
}
