//! How a report is written: lines for a person, or one JSON document (RFC 8259) for a program.

use super::{Entry, Facts, Problem, Role, Severity, Verdict};
use crate::json::quoted;
use crate::snapshots::Layout;
use runtime::text::{counted, one_line};
use std::fmt::Write as _;
use std::io::{self, Write};

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For a person: a line for each entry, one more for each problem, the verdict last.
    Text,
    /// For a program: one JSON object.
    Json,
}

/// A report that is written as entries come.
#[derive(Debug)]
pub struct Report<W> {
    output: W,
    form: Form,
    entries: u64,
}

impl<W: Write> Report<W> {
    /// Begins the report on the datastore in `directory`.
    ///
    /// # Errors
    /// As `output`; so with all methods.
    pub fn begin(mut output: W, form: Form, directory: &str) -> io::Result<Self> {
        if form == Form::Json {
            write!(output, "{{\"directory\":{},\"entries\":[", quoted(directory))?;
        }
        Ok(Self { output, form, entries: 0 })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// As the output.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let separator = if self.entries == 0 { "\n" } else { ",\n" };
        self.entries += 1;
        match self.form {
            Form::Json => write!(self.output, "{separator}{}", object(entry)),
            Form::Text => self.output.write_all(lines(entry).as_bytes()),
        }
    }

    /// Ends the report.
    ///
    /// # Errors
    /// As the output.
    pub fn end(mut self, verdict: &Verdict) -> io::Result<()> {
        let Verdict { images, problems, worst } = verdict;
        match self.form {
            Form::Json => writeln!(
                self.output,
                "\n],\"images\":{images},\"problems\":{problems},\"worst\":{}}}",
                worst.map_or("null".to_owned(), |severity| quoted(name_of(severity)))
            )?,
            Form::Text => writeln!(
                self.output,
                "{}, {}",
                counted(*images, "image"),
                counted(*problems, "problem")
            )?,
        }
        self.output.flush()
    }
}

fn name_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Damage => "damage",
    }
}

fn layout_of(facts: &Facts) -> &'static str {
    match facts.layout {
        None => "none",
        Some(Layout::Chain) => "chain",
        Some(Layout::Copies) => "copies",
    }
}

fn role_of(role: &Role) -> &'static str {
    match role {
        Role::Image(_) => "image",
        Role::Volume(facts) => facts.kind,
        Role::Missing => "missing",
        Role::LeftOver { .. } => "left-over",
        Role::Trash { .. } => "trash",
        Role::Part => "part",
        Role::Unknown => "unknown",
    }
}

/// MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn lines(entry: &Entry) -> String {
    let mut text = format!("{}  ", one_line(&entry.name.to_string_lossy()));
    match &entry.role {
        Role::Image(facts) => {
            text += facts.format.unwrap_or("unreadable");
            if let Some(size) = facts.virtual_size {
                let _ = write!(text, ", {} MiB", mib(size));
            }
            let _ = write!(text, ", {} MiB on disk", mib(facts.allocated));
            match facts.layout {
                None => text += ", no snapshots",
                Some(_) => {
                    let _ = write!(text, ", {} {}", layout_of(facts), listed(&facts.files));
                }
            }
            if !facts.ids.is_empty() {
                let ids: Vec<String> = facts.ids.iter().map(u64::to_string).collect();
                let _ = write!(text, ", image {}", ids.join(" "));
            }
        }
        Role::Volume(facts) => {
            let _ = write!(text, "{}, {} MiB", facts.kind, mib(facts.size));
            match facts.snapshots[..] {
                [] => text += ", no snapshots",
                _ => text.extend([", snapshots ", &listed(&facts.snapshots)]),
            }
        }
        Role::Trash { images, allocated } => {
            let images = counted(*images, "image");
            let _ = write!(text, "trash, {images}, {} MiB on disk", mib(*allocated));
        }
        Role::LeftOver { live: true } => text += "a driver is at work on this",
        role => text += role_of(role),
    }
    text.push('\n');
    for Problem { severity, what } in &entry.problems {
        let _ = writeln!(text, "  {}: {}", name_of(*severity), one_line(what));
    }
    text
}

fn listed(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(" ")
}

fn object(entry: &Entry) -> String {
    let mut text = format!(
        "{{\"name\":{},\"role\":{}",
        quoted(&entry.name.to_string_lossy()),
        quoted(role_of(&entry.role))
    );
    match &entry.role {
        Role::Image(facts) => {
            let or_null = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
            let list = |values: &mut dyn Iterator<Item = String>| {
                format!("[{}]", values.collect::<Vec<_>>().join(","))
            };
            let _ = write!(
                text,
                ",\"ids\":{},\"format\":{},\"virtual_size\":{},\"allocated\":{},\"layout\":{},\"files\":{}",
                list(&mut facts.ids.iter().map(u64::to_string)),
                or_null(facts.format.map(quoted)),
                or_null(facts.virtual_size.map(|size| size.to_string())),
                facts.allocated,
                quoted(layout_of(facts)),
                list(&mut facts.files.iter().map(u32::to_string)),
            );
        }
        Role::LeftOver { live } => {
            let _ = write!(text, ",\"live\":{live}");
        }
        Role::Volume(facts) => {
            let ids: Vec<String> = facts.ids.iter().map(u64::to_string).collect();
            let _ = write!(
                text,
                ",\"ids\":[{}],\"virtual_size\":{},\"files\":[{}]",
                ids.join(","),
                facts.size,
                listed(&facts.snapshots).replace(' ', ",")
            );
        }
        Role::Trash { images, allocated } => {
            let _ = write!(text, ",\"images\":{images},\"allocated\":{allocated}");
        }
        Role::Missing | Role::Part | Role::Unknown => {}
    }
    text += ",\"problems\":[";
    for (index, Problem { severity, what }) in entry.problems.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{separator}{{\"severity\":{},\"what\":{}}}",
            quoted(name_of(*severity)),
            quoted(&one_line(what))
        );
    }
    text + "]}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_last_line() {
        let mut output = Vec::new();
        let report = Report::begin(&mut output, Form::Text, "/ds").map_err(drop);
        let verdict = Verdict { images: 1, problems: 2, worst: None };
        assert!(report.is_ok_and(|report| report.end(&verdict).is_ok()));
        assert_eq!(output, b"1 image, 2 problems\n");
    }
}
