//! The `ferrostore` command as an administrator runs it, and what it says.

use crate::{Cloud, executable};
use serde_json::Value;
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// What the command said.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub text: String,
    /// Standard error.
    pub error: String,
}

impl Cloud {
    /// Runs `ferrostore` with these arguments on the front-end, as oneadmin would.
    #[track_caller]
    pub fn ferrostore<S: Into<OsString>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        let output = Command::new(executable("ferrostore"))
            .args(arguments.into_iter().map(Into::into))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("ONE_LOCATION", self.one_location())
            .stdin(Stdio::null())
            .output()
            .expect("ferrostore can be started");
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Said {
            code: output.status.code().expect("ferrostore is not killed"),
            text: text(output.stdout),
            error: text(output.stderr),
        }
    }
}

impl Said {
    /// Checks that the command succeeded, and had nothing to complain about.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!((self.code, self.error.as_str()), (0, ""), "{}", self.text);
        self
    }

    /// Checks that the command failed with one line, which contains `words`.
    #[track_caller]
    pub fn refusing(self, words: &str) -> Self {
        assert_eq!((self.code, self.text.as_str()), (1, ""), "{}", self.error);
        assert_eq!(self.error.lines().count(), 1, "one line says why: {:?}", self.error);
        assert!(self.error.contains(words), "{words:?} should be in {:?}", self.error);
        self
    }

    /// The output as one JSON document for each line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.text.lines().map(parse).collect()
    }
}
