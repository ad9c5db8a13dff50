//! What the driver on a bridge host tells the front-end of its work while it is at it: numbers and facts for the record,
//! and how far it is. One frame, lines of a name and a value.

use super::Role;
use crate::progress;
use crate::record::{self, Numbers};
use std::time::Duration;

/// The report of this process. Bytes that the front-end has sent are not counted as read here: they are counted there.
pub(super) fn written(role: Role) -> Vec<u8> {
    let (numbers, facts, now) = (record::numbers(), record::facts(), progress::now());
    let read = if role == Role::Take { 0 } else { numbers.read };
    let mut lines: Vec<String> = [
        ("read", read),
        ("written", numbers.written),
        ("shared", numbers.shared),
        ("zero", numbers.zero),
        ("resumed", numbers.resumed),
        ("wait", u64::try_from(numbers.lock_wait.as_micros()).unwrap_or(u64::MAX)),
    ]
    .map(|(name, value)| format!("{name} {value}"))
    .into();
    lines.push(format!("format {}", facts.format_in));
    lines.push(format!("compression {}", facts.compression));
    lines.push(format!("sha256 {}", facts.sha256));
    lines.push(format!("verified {}", facts.verified));
    if role == Role::Act {
        lines.push(format!("done {}", now.done));
        lines.push(format!("total {}", now.total));
    }
    lines.join("\n").into_bytes()
}

/// Takes over a report. What can't be understood in it is passed over.
pub(super) fn take(payload: &[u8]) {
    let text = String::from_utf8_lossy(payload);
    let value = |wanted: &str| {
        let line = text.lines().find_map(|line| line.split_once(' ').filter(|l| l.0 == wanted));
        line.map_or("", |(_, value)| value)
    };
    let number = |name: &str| value(name).parse().unwrap_or(0);
    record::elsewhere(Numbers {
        read: number("read"),
        written: number("written"),
        shared: number("shared"),
        zero: number("zero"),
        resumed: number("resumed"),
        lock_wait: Duration::from_micros(number("wait")),
    });
    record::note(|facts| {
        for (fact, value) in [
            (&mut facts.format_in, value("format")),
            (&mut facts.compression, value("compression")),
            (&mut facts.sha256, value("sha256")),
            (&mut facts.verified, value("verified")),
        ] {
            if !value.is_empty() {
                value.clone_into(fact);
            }
        }
    });
    if !value("done").is_empty() {
        progress::elsewhere(number("done"), number("total"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_taken_as_it_was_written_and_nonsense_passed_over() {
        take(b"read 5\nwritten 70\nwait 1500000\nsha256 ab\nnonsense\nzero x\n");
        let numbers = record::numbers();
        // Other tests of this process read too.
        assert!(numbers.read >= 5, "{}", numbers.read);
        assert_eq!((numbers.written, numbers.zero), (70, 0));
        assert!(numbers.lock_wait >= Duration::from_millis(1500));
        let report = String::from_utf8_lossy(&written(Role::Take)).into_owned();
        assert!(report.contains("\nwritten 70\n") && !report.contains("done"), "{report}");
        take(b"");
        assert_eq!(record::numbers().written, 0);
    }
}
