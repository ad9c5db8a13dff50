//! The record of calls, as a test reads it.

use crate::Cloud;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

impl Cloud {
    /// Where calls are recorded.
    pub fn call_log(&self) -> PathBuf {
        self.one_location().join("var/ferrostore.jsonl")
    }

    /// All calls that are recorded, oldest first.
    #[track_caller]
    pub fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.call_log()).unwrap_or_default();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        text.lines().map(parse).collect()
    }

    /// The call that was recorded last.
    #[track_caller]
    pub fn last_call(&self) -> Value {
        self.calls().pop().expect("a call is recorded")
    }
}
