//! What the name of a backing file means: a path, or one of QEMU's pseudo-protocols.

use serde_json::{Map, Value};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The backing file that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its format, where the name says it.
    pub format: Option<Vec<u8>>,
}

/// What QEMU writes into a `json:` name besides the file: how it is read, not what is in it.
const HARMLESS: [&str; 9] = [
    "node-name",
    "read-only",
    "auto-read-only",
    "discard",
    "detect-zeroes",
    "locking",
    "aio",
    "cache.direct",
    "cache.no-flush",
];

impl BackingFile {
    /// The file that `name` means in the image at `holder`, a real path: relative names start from the directory
    /// of the file that holds them. `None`: it is no file on this machine, or not all of one.
    #[must_use]
    pub fn named(holder: &Path, name: &[u8]) -> Option<Self> {
        if let Some(json) = name.strip_prefix(b"json:") {
            return Self::described(&serde_json::from_slice(json).ok()?);
        }
        // QEMU writes the protocol for names that would otherwise look like one.
        let name = name.strip_prefix(b"file:").unwrap_or(name);
        let directory = holder.parent().unwrap_or(Path::new("/"));
        Some(Self { path: directory.join(OsStr::from_bytes(name)), format: None })
    }

    /// The file that QEMU opens for a `json:` name. A relative path in it starts from wherever QEMU runs.
    fn described(options: &Map<String, Value>) -> Option<Self> {
        let mut flat = Vec::new();
        flatten("", options, &mut flat);
        let text = |key: &str| {
            let value = flat.iter().find(|(known, _)| known == key).map(|(_, value)| *value);
            value.map_or(Some(""), Value::as_str)
        };
        let (driver, protocol) = (text("driver")?, text("file.driver")?);
        let (format, file) = match driver {
            "file" => ("raw", ""),
            other if ["file", ""].contains(&protocol) => (other, "file."),
            _ => return None,
        };
        let known = |key: &str| {
            let key = key.strip_prefix("file.").unwrap_or(key);
            ["driver", "filename"].contains(&key) || HARMLESS.contains(&key)
        };
        if !flat.iter().all(|(key, _)| known(key)) {
            return None;
        }
        let path = PathBuf::from(text(&format!("{file}filename"))?);
        let format = Some(format).filter(|format| !format.is_empty());
        path.is_absolute()
            .then(|| Self { path, format: format.map(|name| name.as_bytes().to_vec()) })
    }
}

/// All members of nested objects, by the names that QEMU gives them in one object: `file.filename`.
fn flatten<'v>(prefix: &str, options: &'v Map<String, Value>, into: &mut Vec<(String, &'v Value)>) {
    for (key, value) in options {
        let key = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => flatten(&format!("{key}."), inner, into),
            other => into.push((key, other)),
        }
    }
}

/// The last parts of all paths that stand in the name of a backing file, whatever kind of name it is.
#[must_use]
pub fn mentioned_files(name: &[u8]) -> Vec<OsString> {
    let last = |path: &[u8]| {
        let start = path.iter().rposition(|&byte| b"/:".contains(&byte)).map_or(0, |at| at + 1);
        OsStr::from_bytes(&path[start..]).to_owned()
    };
    let Some(json) = name.strip_prefix(b"json:") else { return vec![last(name)] };
    // Also where it is no JSON: each run of bytes between quotes.
    json.split(|&byte| byte == b'"').map(last).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(name: &str) -> Option<(String, Option<String>)> {
        let found = BackingFile::named(Path::new("/ds/1/image.snap/2"), name.as_bytes())?;
        let format = found.format.map(|format| String::from_utf8(format).unwrap());
        Some((found.path.to_str().unwrap().to_owned(), format))
    }

    #[test]
    fn a_path_starts_from_the_image_that_names_it() {
        assert_eq!(named("1"), Some(("/ds/1/image.snap/1".into(), None)));
        assert_eq!(named("file:/x/y"), Some(("/x/y".into(), None)));
        assert_eq!(named("image.snap/1"), Some(("/ds/1/image.snap/image.snap/1".into(), None)));
    }

    #[test]
    fn a_description_of_a_local_file_is_that_file() {
        let expected = |format: Option<&str>| Some(("/x/1".into(), format.map(str::to_owned)));
        for (name, format) in [
            (
                r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/1"}}"#,
                Some("qcow2"),
            ),
            (
                r#"json: {"file.filename" : "/x/1", "driver": "raw", "file.driver":"file"}"#,
                Some("raw"),
            ),
            (r#"json:{"file":{"filename":"\/x\/\u0031"}}"#, None),
            (r#"json:{"driver":"file","filename":"/x/1"}"#, Some("raw")),
            (
                r#"json:{"driver":"qcow2","read-only":true,"file":{"driver":"file","filename":"/x/1","locking":"off"}}"#,
                Some("qcow2"),
            ),
        ] {
            assert_eq!(named(name), expected(format), "{name}");
        }
    }

    #[test]
    fn a_description_of_anything_else_is_no_file() {
        for name in [
            "json:",
            "json:{",
            "json:[]",
            r#"json:{"driver":"qcow2"}"#,
            r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"1"}}"#,
            r#"json:{"driver":"qcow2","file":{"driver":"file","filename":7}}"#,
            r#"json:{"driver":"qcow2","file":{"driver":"nbd","host":"h"}}"#,
            r#"json:{"driver":"raw","offset":512,"file":{"driver":"file","filename":"/x/1"}}"#,
            r#"json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"/x/1"}}"#,
        ] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn every_file_that_a_name_mentions_is_found() {
        let mentions = |name: &str, file: &str| {
            mentioned_files(name.as_bytes()).iter().any(|found| found == file)
        };
        assert!(mentions("2", "2") && mentions("a.snap/2", "2") && mentions("file:2", "2"));
        assert!(mentions(r#"json:{"driver":"raw","file.filename":"/x/2","offset":1"#, "2"));
        assert!(!mentions("a.snap/12", "2") && !mentions("/2/x", "2"));
    }
}
