//! `fsck` as an administrator runs it, and what it says.

use crate::{Cloud, executable, run};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A run of `fsck` to be made: built by [`Cloud::fsck`], made by [`Fsck::run`].
#[derive(Clone, Debug)]
pub struct Fsck<'cloud> {
    cloud: &'cloud Cloud,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    wrapper: Vec<OsString>,
    user: Option<u32>,
}

/// What an examination came to.
#[derive(Debug)]
pub struct Examination {
    /// The exit code.
    pub code: i32,
    /// The report for a person.
    pub text: String,
    /// The report for a program.
    pub json: Value,
}

impl Cloud {
    /// Examines the datastore.
    pub fn fsck(&self) -> Fsck<'_> {
        self.fsck_with([self.datastore()])
    }

    /// Runs `fsck` with exactly these arguments.
    pub fn fsck_with<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Fsck<'_> {
        Fsck {
            cloud: self,
            arguments: arguments.into_iter().map(Into::into).collect(),
            input: Vec::new(),
            wrapper: Vec::new(),
            user: None,
        }
    }
}

impl Fsck<'_> {
    /// Adds arguments.
    pub fn with<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Examines against a list of what oned knows, which comes on standard input.
    pub fn knowing(self, list: impl AsRef<[u8]>) -> Self {
        self.input(list).with(["--images", "-"])
    }

    /// Sends these bytes on standard input.
    pub fn input(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = bytes.as_ref().to_vec();
        self
    }

    /// Runs it under another program: its name and arguments.
    pub fn under<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Runs it as another user than root.
    pub fn as_user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// Runs it for a person and for a program. Both must come to the same, and neither may change
    /// anything.
    #[track_caller]
    pub fn run(self) -> Examination {
        let before = self.cloud.listing();
        let (code, text, stderr) = self.clone().start();
        assert!([0, 2, 3].contains(&code), "fsck ended with {code}: {text}{stderr}");
        assert_eq!(stderr, "", "all there is to say is in the report");
        let (json_code, json, _) = self.clone().with(["--json"]).start();
        assert_eq!(json_code, code, "the form of the report changes nothing: {json}");
        let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
        let verdict = format!(
            "{}, {}",
            counted(&json["images"], "image"),
            counted(&json["problems"], "problem")
        );
        assert_eq!(text.lines().last(), Some(verdict.as_str()), "{text}");
        assert_eq!(self.cloud.listing(), before, "fsck changes nothing");
        Examination { code, text, json }
    }

    /// Runs it where it can't examine anything; the line that it says.
    #[track_caller]
    pub fn refuses(self) -> String {
        let (code, stdout, stderr) = self.start();
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.starts_with("fsck: ") && stderr.ends_with('\n'), "{stderr:?}");
        assert_eq!(stderr.lines().count(), 1, "one line says why: {stderr:?}");
        stderr
    }

    /// Runs it once: exit code, standard output, standard error.
    #[track_caller]
    pub fn start(self) -> (i32, String, String) {
        let program = match self.user {
            None => executable("fsck"),
            Some(_) => self.copy_for_anyone(),
        };
        let mut command = match self.wrapper.split_first() {
            None => Command::new(program),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
        };
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("ONE_LOCATION", self.cloud.one_location())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        let mut child = command.spawn().expect("fsck can be started");
        let mut stdin = child.stdin.take().expect("a pipe");
        // What reads no input closes the pipe.
        let _ = stdin.write_all(&self.input);
        drop(stdin);
        let output = child.wait_with_output().expect("fsck ends");
        let code = output.status.code();
        let code = code.unwrap_or_else(|| panic!("fsck died: {} {output:?}", output.status));
        let text = |bytes| String::from_utf8(bytes).expect("a report is UTF-8");
        (code, text(output.stdout), text(output.stderr))
    }

    fn copy_for_anyone(&self) -> PathBuf {
        let copy = self.cloud.root().join("fsck");
        run("cp", [executable("fsck"), copy.clone()]);
        copy
    }
}

impl Examination {
    /// Checks that nothing is wrong.
    #[track_caller]
    pub fn clean(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.text);
        assert_eq!(self.json["problems"], 0, "{}", self.text);
        assert_eq!(self.json["worst"], Value::Null);
        self
    }

    /// Checks that one thing is wrong, and only that: a `warning` or `damage` of the entry `name`, in
    /// words that contain `words`.
    #[track_caller]
    pub fn finds(self, severity: &str, name: &str, words: &str) -> Self {
        assert_eq!(self.json["problems"], 1, "{}", self.text);
        self.finds_too(severity, name, words)
    }

    /// Checks that this is among the things that are wrong.
    #[track_caller]
    pub fn finds_too(self, severity: &str, name: &str, words: &str) -> Self {
        let problems = self.entry(name)["problems"].as_array().expect("a list");
        let found = problems.iter().any(|problem| {
            problem["severity"] == severity && problem["what"].as_str().unwrap().contains(words)
        });
        assert!(found, "{severity} of {name}: {words:?} should be in\n{}", self.text);
        let least = if severity == "damage" { 3 } else { 2 };
        assert!(self.code >= least, "exit code {}: {}", self.code, self.text);
        if self.json["problems"] == 1 {
            assert_eq!(self.code, least, "{}", self.text);
            assert_eq!(self.json["worst"], severity);
        }
        self
    }

    /// Checks that there are so many images.
    #[track_caller]
    pub fn images(self, count: u64) -> Self {
        assert_eq!(self.json["images"], count, "{}", self.text);
        self
    }

    /// What is said of the entry `name`.
    #[track_caller]
    pub fn entry(&self, name: &str) -> &Value {
        let entries = self.json["entries"].as_array().expect("a list");
        let entry = entries.iter().find(|entry| entry["name"] == name);
        entry.unwrap_or_else(|| panic!("{name} is not in\n{}", self.text))
    }
}

fn counted(number: &serde_json::Value, thing: &str) -> String {
    format!("{number} {thing}{}", if *number == 1 { "" } else { "s" })
}
