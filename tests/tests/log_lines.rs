//! Log lines as oned takes them: a number at their start would be lost there.

use std::fs;
use std::path::{Path, PathBuf};

/// All sources of what is shipped.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The format strings of all log lines in a source.
fn lines(text: &str) -> Vec<&str> {
    let calls = ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "log!("];
    let mut found = Vec::new();
    for call in calls {
        for (at, _) in text.match_indices(&format!("log::{call}")) {
            let arguments = &text[at..];
            let start = arguments.find('"').expect("a format string") + 1;
            found.push(arguments[start..].lines().next().unwrap_or_default());
        }
    }
    found
}

#[test]
fn every_log_line_that_the_code_can_write_begins_with_a_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(&root.join("common"), &mut files);
    sources(&root.join("drivers"), &mut files);
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("use log::{debug") && !text.contains("use log::warn"), "{file:?}");
        for line in lines(&text) {
            let word = line.starts_with(|c: char| c.is_ascii_alphabetic());
            assert!(word, "{}: a log line begins with {line:?}", file.display());
            count += 1;
        }
    }
    assert!(count > 30, "the log lines were found: {count}");
}
