//! What a call gave: its answer and its traces.

use crate::{Listing, Rule, TRASH};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What a call gave; ask it whether it [`succeeds`](Outcome::succeeds) or
/// [`fails`](Outcome::fails).
#[derive(Debug)]
pub struct Outcome {
    pub(crate) action: String,
    pub(crate) base_path: String,
    pub(crate) directory: PathBuf,
    /// How the process ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Whether it read all of its standard input.
    pub input_taken: bool,
    /// The datastore before the call.
    pub before: Listing,
    /// The datastore after the call.
    pub after: Listing,
}

const LEVELS: [&str; 4] = ["ERROR: ", "INFO: ", "WARN: ", "DEBUG: "];

/// Whether only a driver can have put it there.
fn is_hidden(name: &str) -> bool {
    // The mark of an export that was mounted for the datastore stays, and so does what was deleted.
    let stays = name == ".automounted" || name.split('/').next() == Some(TRASH);
    name.starts_with('.') && !stays
}

impl Outcome {
    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8(self.stderr.clone()).expect("standard error is UTF-8")
    }

    /// The lines that oned puts into its log.
    pub fn log_lines(&self) -> Vec<String> {
        self.lines(true)
    }

    /// The lines that oned shows to the user when the call fails.
    pub fn user_lines(&self) -> Vec<String> {
        self.lines(false)
    }

    fn lines(&self, log: bool) -> Vec<String> {
        self.stderr_text()
            .lines()
            .filter(|line| LEVELS.iter().any(|level| line.starts_with(level)) == log)
            .map(str::to_owned)
            .collect()
    }

    /// Checks that the call succeeded, and that it left nothing staged.
    #[track_caller]
    pub fn succeeds(self) -> Reply {
        assert_eq!(
            self.status.code(),
            Some(0),
            "{} should have succeeded, but said: {}",
            self.action,
            String::from_utf8_lossy(&self.stderr)
        );
        assert!(self.input_taken, "{} left input unread", self.action);
        assert_eq!(self.user_lines(), [""; 0], "a success has nothing but log lines on stderr");
        let staged: Vec<_> =
            self.after.names().into_iter().filter(|name| is_hidden(name)).collect();
        assert_eq!(staged, [""; 0], "nothing stays staged");
        let text = String::from_utf8(self.stdout.clone()).expect("a reply is UTF-8");
        Reply { text, outcome: self }
    }

    /// Checks that the call failed as the contract asks: exit code 1, nothing on standard output,
    /// one line for the user, input read to its end, datastore untouched.
    ///
    /// What failed must be asked for its reason: [`Failure::because`], or [`Failure::saying`] words of it. Where the reason
    /// is a rule of [`Rule`], [`Self::refused`] is shorter.
    #[track_caller]
    pub fn fails(self) -> Failure {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let stderr = self.stderr_text();
        assert_eq!(
            self.status.code(),
            Some(1),
            "{} should have failed with exit code 1, but ended with {} and replied {stdout:?}, {stderr:?}",
            self.action,
            self.status,
        );
        assert_eq!(stdout, "", "a failure replies nothing");
        assert!(self.input_taken, "{} left input unread", self.action);
        let lines = self.user_lines();
        assert_eq!(lines.len(), 1, "a failure has one line for the user: {stderr:?}");
        assert!(stderr.ends_with('\n'), "the last line is whole: {stderr:?}");
        assert!(
            !stderr.contains(|c: char| c.is_control() && c != '\n'),
            "no control characters reach oned's log: {stderr:?}"
        );
        assert!(
            lines[0].starts_with(&format!("{}: ", self.action)),
            "the line begins with the action: {}",
            lines[0]
        );
        assert_eq!(self.before, self.after, "a failure leaves the datastore as it was");
        let reason = Reason { given: false, line: lines[0].clone(), caller: Location::caller() };
        Failure { text: lines[0].clone(), outcome: self, reason }
    }

    /// As [`Self::fails`], because this rule was broken.
    #[track_caller]
    pub fn refused(self, rule: Rule) -> Failure {
        self.fails().because(rule)
    }

    /// As [`Self::refused`], by one of these rules.
    #[track_caller]
    pub fn refused_by_any(self, rules: &[Rule]) -> Failure {
        self.fails().because_any(rules)
    }
}

/// The reply of a call that succeeded.
#[derive(Debug)]
pub struct Reply {
    /// Standard output, whole.
    pub text: String,
    /// All that there is to know about the call.
    pub outcome: Outcome,
}

impl Reply {
    /// The reply of every action but `monitor`: one line.
    #[track_caller]
    pub fn line(&self) -> &str {
        let line = self.text.strip_suffix('\n').expect("the reply ends with a newline");
        assert!(!line.contains('\n'), "the reply is one line: {line:?}");
        line
    }

    /// Checks the reply line.
    #[track_caller]
    pub fn replies(&self, expected: &str) -> &Self {
        assert_eq!(self.line(), expected);
        self
    }

    /// Checks that there is no reply.
    #[track_caller]
    pub fn silently(&self) -> &Self {
        assert_eq!(self.text, "");
        self
    }

    /// Checks `<path> <format>` of `cp` and `clone`; the path of the one new file.
    #[track_caller]
    pub fn image(&self, format: &str) -> PathBuf {
        let (path, replied) = self.line().rsplit_once(' ').expect("<path> <format>");
        assert_eq!(replied, format, "the format replied");
        self.one_new_file(path)
    }

    /// Checks `<path>` of `mkfs`; the path of the one new file.
    #[track_caller]
    pub fn empty_image(&self) -> PathBuf {
        self.one_new_file(self.line())
    }

    #[track_caller]
    fn one_new_file(&self, path: &str) -> PathBuf {
        let name = self.new_name(path);
        assert_eq!(
            self.outcome.after.changed_since(&self.outcome.before),
            [name.as_str()],
            "one new file is all that changes"
        );
        assert_eq!(self.outcome.after.gone_since(&self.outcome.before), [""; 0]);
        let file = self.outcome.directory.join(name);
        let metadata = file.symlink_metadata().expect("the replied file is there");
        assert!(metadata.is_file(), "an image is a plain file");
        file
    }

    /// Checks that `path` is `BASE_PATH` as it came and 32 hex digits; the latter.
    #[track_caller]
    pub fn new_name(&self, path: &str) -> String {
        let name = path
            .strip_prefix(&self.outcome.base_path)
            .and_then(|rest| rest.strip_prefix('/'))
            .unwrap_or_else(|| panic!("{path} does not begin with BASE_PATH as it came"));
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(name.len() == 32 && name.chars().all(hex), "{name:?} is not 32 hex digits");
        name.to_owned()
    }

    /// Checks that the call changed nothing in the datastore.
    #[track_caller]
    pub fn changing_nothing(&self) -> &Self {
        assert_eq!(self.outcome.before, self.outcome.after);
        self
    }

    /// Checks that exactly these entries are gone (paths below the datastore's directory).
    #[track_caller]
    pub fn removing(&self, names: &[&str]) -> &Self {
        assert_eq!(self.outcome.after.gone_since(&self.outcome.before), names);
        assert_eq!(self.outcome.after.changed_since(&self.outcome.before), [""; 0]);
        self
    }
}

/// The one line that the user sees of a call that failed.
///
/// A test that only asks whether a call fails would also pass where it fails for another reason, such as a wrong path.
/// So one that never asks for the reason panics.
#[derive(Debug)]
pub struct Failure {
    /// The line.
    pub text: String,
    /// All that there is to know about the call.
    pub outcome: Outcome,
    reason: Reason,
}

/// Whether a test has asked for the reason of a failure.
#[derive(Debug)]
struct Reason {
    given: bool,
    line: String,
    caller: &'static Location<'static>,
}

impl Drop for Reason {
    fn drop(&mut self) {
        assert!(
            self.given || std::thread::panicking(),
            "{}: no rule is asserted of this line: {}",
            self.caller,
            self.line
        );
    }
}

/// Whether these are words of a rule: neither an attribute nor a path nor a number.
fn are_words(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_lowercase()) && !text.contains('/')
}

impl Failure {
    /// Checks that the line says that this rule was broken.
    #[track_caller]
    pub fn because(self, rule: Rule) -> Self {
        self.because_any(&[rule])
    }

    /// Checks that the line says that one of these rules was broken.
    #[track_caller]
    pub fn because_any(mut self, rules: &[Rule]) -> Self {
        self.reason.given = true;
        let words: Vec<_> = rules.iter().map(|rule| rule.words()).collect();
        self.saying_any(&words)
    }

    /// Accepts any reason: for calls of which the reason depends on chance.
    pub fn for_any_reason(mut self) -> Self {
        self.reason.given = true;
        self
    }

    /// Checks that the line names an attribute, by its path as in `IMAGE/PATH`.
    #[track_caller]
    pub fn naming(self, attribute: &str) -> Self {
        self.saying(attribute)
    }

    /// Checks that the line contains a text (in either case).
    #[track_caller]
    pub fn saying(mut self, text: &str) -> Self {
        self.reason.given |= are_words(text);
        let found = self.text.to_lowercase().contains(&text.to_lowercase());
        assert!(found, "{:?} should be in: {}", text, self.text);
        self
    }

    /// Checks that the line contains the path.
    #[track_caller]
    pub fn saying_path(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().display().to_string();
        self.saying(&path)
    }

    /// Checks that the line contains at least one of the texts (in either case).
    #[track_caller]
    pub fn saying_any(mut self, texts: &[&str]) -> Self {
        self.reason.given |= texts.iter().all(|text| are_words(text));
        let line = self.text.to_lowercase();
        let found = texts.iter().any(|text| line.contains(&text.to_lowercase()));
        assert!(found, "one of {texts:?} should be in: {}", self.text);
        self
    }
}
