//! Settings of what is told of calls: the record, and progress.

use crate::settings::Settings;
use crate::values::parse_yes_no;
use std::path::PathBuf;

impl Settings {
    /// The file that each call is recorded in (`CALL_LOG`, a path or `no`, in the environment or in datastore.conf);
    /// `None`: nowhere.
    #[must_use]
    pub fn call_log(&self) -> Option<PathBuf> {
        let own = std::env::var("CALL_LOG").ok();
        let value = own.or_else(|| self.datastore_conf("CALL_LOG").ok().flatten());
        let value = value.unwrap_or_default();
        if value.starts_with('/') {
            return Some(value.into());
        }
        if parse_yes_no(&value) == Some(false) {
            return None;
        }
        Some(match &self.one_location {
            Some(location) => location.join("var/ferrostore.jsonl"),
            None => "/var/log/one/ferrostore.jsonl".into(),
        })
    }

    /// Whether oned is told how far an action is (`PROGRESS=no` turns that off).
    #[must_use]
    pub fn tells_progress(&self) -> bool {
        let value = self.datastore_conf("PROGRESS").ok().flatten().unwrap_or_default();
        parse_yes_no(&value) != Some(false)
    }
}
