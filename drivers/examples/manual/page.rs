//! Man pages, in the language of man(7).

use clap::Command;
use clap_mangen::Man;
use std::fmt::Write as _;

/// The body of a page.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// The page of a command: what its `--help` shows.
    pub(crate) fn of_command(name: &str, mut command: Command) -> Self {
        let mut page = Self::default();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        page.section("NAME");
        let summary = about.split(". ").next().unwrap_or(&about).trim_end_matches('.');
        let mut letters = summary.chars();
        let first = letters.next().map(|first| first.to_lowercase().to_string());
        let _ = writeln!(
            page.0,
            "{} \\- {}",
            escaped(name),
            escaped(&(first.unwrap_or_default() + letters.as_str()))
        );
        page.section("SYNOPSIS");
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>();
        page.as_it_is(&usage.join("\n"));
        page.section("DESCRIPTION");
        page.paragraph(&about);
        let mut options = Vec::new();
        let has_options = command.get_arguments().any(|argument| !argument.is_hide_set());
        let after = command.get_after_help().map(ToString::to_string);
        let subcommands: Vec<(String, String)> = command
            .get_subcommands()
            .map(|sub| {
                let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
                (sub.get_name().to_owned(), about)
            })
            .collect();
        if has_options {
            let man = Man::new(command.disable_help_subcommand(true));
            if man.render_options_section(&mut options).is_ok() {
                page.0 += &linted(&String::from_utf8_lossy(&options));
            }
        }
        if !subcommands.is_empty() {
            page.section("SUBCOMMANDS");
            for (subcommand, about) in subcommands {
                page.item(&format!("ferrostore-{subcommand}(8)"), &about);
            }
        }
        if let Some(after) = after {
            page.section("NOTES");
            page.as_it_is(&after);
        }
        page.section("SEE ALSO");
        page.paragraph(if name == "ferrostore" {
            "ferrostore(7)"
        } else {
            "ferrostore(8), ferrostore(7)"
        });
        page
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SH {}", quoted(title));
    }

    /// Adds a paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        if !self.0.lines().next_back().is_some_and(|line| line.starts_with(".SH")) {
            self.0 += ".PP\n";
        }
        for line in text.lines() {
            let _ = writeln!(self.0, "{}", escaped(line.trim()));
        }
    }

    /// Adds an entry of a list.
    pub(crate) fn item(&mut self, term: &str, text: &str) {
        let _ = writeln!(self.0, ".TP\n\\fB{}\\fR\n{}", escaped(term), escaped(text));
    }

    /// Adds lines as they are.
    pub(crate) fn as_it_is(&mut self, text: &str) {
        self.0 += ".nf\n";
        for line in text.trim().lines() {
            let line = line.trim_end();
            let _ = writeln!(
                self.0,
                "{}",
                if line.is_empty() { ".sp".to_owned() } else { escaped(line) }
            );
        }
        self.0 += ".fi\n";
    }

    /// The whole page. It has no date: the same sources give the same bytes.
    pub(crate) fn text(&self, name: &str, section: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let title = name.to_uppercase();
        let manual = "OpenNebula datastore drivers";
        format!(
            ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {} {section} \"\" \"ferrostore {version}\" \"{manual}\"\n.nh\n{}",
            quoted(&title),
            self.0
        )
    }
}

/// What mandoc finds fault with in the output of clap_mangen.
fn linted(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with(".ie ") && !line.starts_with(".el ") && !line.is_empty())
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(&text.replace('"', "'")))
}

/// Text in which nothing is taken for a request or an escape.
fn escaped(text: &str) -> String {
    let text =
        text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    let text = text.replace('~', "\\(ti").replace('^', "\\(ha");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
