//! How an image in a trash is told, and the command that registers it again.

use super::Item;
use crate::json::Object;
use crate::progress::words::size;
use crate::record::time;
use runtime::staging::trash::now;
use runtime::text::{counted, one_line};
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// Longer texts are cut, bytes.
const LONGEST: usize = 4096;

/// Device prefixes that `oneimage create` takes.
const PREFIXES: [&str; 4] = ["hd", "sd", "vd", "xvd"];

/// A line for a person.
pub(super) fn line(item: &Item) -> String {
    let record = &item.record;
    let deleted = time::written(UNIX_EPOCH + item.deleted);
    let deleted = deleted.split('.').next().unwrap_or_default().replace('T', " ");
    let mut text = format!("{deleted}  {:>10}", left(item.expires));
    let id = record.image.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let known = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
    let (kind, format) = (known(&record.r#type), known(&record.format));
    let _ = write!(text, "  {id:>6}  {}  {kind} {format}", known(&record.owner));
    if let Some(virtual_size) = record.size_mib {
        let _ = write!(text, ", {virtual_size} MiB");
    }
    let _ = write!(text, ", {} on disk", size(item.bytes));
    if record.snapshots > 0 {
        let _ = write!(text, ", {}", counted(record.snapshots, "snapshot"));
    }
    let _ = write!(text, "  {}  {}", item.name, known(&record.name));
    one_line(&text) + "\n"
}

/// How long it is kept yet.
fn left(expires: Duration) -> String {
    let left = expires.saturating_sub(now()).as_secs();
    match (left / (24 * 3600), left / 3600) {
        (0, 0) if left == 0 => "over".to_owned(),
        (0, 0) => "1 h left".to_owned(),
        (0, hours) => format!("{hours} h left"),
        (days, _) => format!("{days} d left"),
    }
}

/// A line for a program.
pub(super) fn object(item: &Item) -> String {
    let record = &item.record;
    let mut object = Object::default();
    for (name, value) in [
        ("file", &item.name),
        ("entry", &item.key),
        ("name", &record.name),
        ("owner", &record.owner),
        ("group", &record.group),
        ("type", &record.r#type),
        ("format", &record.format),
        ("source", &record.source),
        ("deleted", &time::written(UNIX_EPOCH + item.deleted)),
        ("expires", &time::written(UNIX_EPOCH + item.expires)),
    ] {
        object.text(name, value, LONGEST);
    }
    let numbers =
        [("image", record.image), ("datastore", record.datastore), ("size_mib", record.size_mib)];
    for (name, number) in numbers {
        if let Some(number) = number {
            object.number(name, number);
        }
    }
    object.number("bytes", item.bytes);
    object.number("snapshots", record.snapshots);
    object.flag("persistent", record.persistent);
    object.into_line()
}

/// The command that registers what was restored as `source`, and what oned can't be told by it, as comments.
pub(super) fn registration(item: &Item, source: &str) -> String {
    let record = &item.record;
    let or = |value: &str, other: &str| {
        // What would move a terminal's cursor is in no name of oned's.
        let value = one_line(value);
        if value.is_empty() { other.to_owned() } else { value }
    };
    let mut words = vec!["oneimage".to_owned(), "create".to_owned()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Some(datastore) = record.datastore {
        option("--datastore", datastore.to_string());
    }
    // `oneimage` puts the value between quotation marks of its own.
    option("--name", or(&record.name, &item.name).replace('"', "\\\""));
    option("--type", or(&record.r#type, "OS"));
    option("--source", source.to_owned());
    option("--format", or(&record.format, "raw"));
    option("--size", record.size_mib.unwrap_or(item.bytes.div_ceil(1 << 20)).max(1).to_string());
    if PREFIXES.contains(&record.prefix.as_str()) {
        option("--prefix", record.prefix.clone());
    }
    if record.persistent {
        words.push("--persistent".to_owned());
    }
    let mut text = shell_words::join(&words) + "\n";
    if !record.owner.is_empty() {
        let owner = shell_words::join([&record.owner, &record.group]);
        let _ = writeln!(text, "# The owner was: oneimage chown <new ID> {}", one_line(&owner));
    }
    if record.snapshots > 0 {
        let _ = writeln!(
            text,
            "# oned does not know of {} on disk: oneimage clone <new ID> <name> makes an image of the live disk",
            counted(record.snapshots, "snapshot")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trash::Record;

    fn item(record: Record) -> Item {
        let deleted = Duration::from_millis(1_795_885_712_123);
        let expires = deleted + Duration::from_secs(60);
        let (name, key) = ("0f".repeat(16), String::new());
        Item { name, key, deleted, expires, bytes: 3 << 20, record }
    }

    #[test]
    fn the_command_names_all_that_oned_needs() {
        let record = Record {
            image: Some(7),
            name: "it's a \"disk\"".into(),
            owner: "alice".into(),
            group: "users".into(),
            r#type: "DATABLOCK".into(),
            format: "qcow2".into(),
            size_mib: Some(10),
            persistent: true,
            prefix: "vd".into(),
            datastore: Some(104),
            snapshots: 2,
            ..Record::default()
        };
        let text = registration(&item(record), "/var/lib/one//datastores/104/x");
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let words = shell_words::split(first).unwrap_or_default();
        let expected = "oneimage create --datastore 104 --name NAME --type DATABLOCK --source \
                        /var/lib/one//datastores/104/x --format qcow2 --size 10 --prefix vd --persistent";
        let expected: Vec<String> =
            expected
                .split(' ')
                .map(|word| {
                    if word == "NAME" { "it's a \\\"disk\\\"".to_owned() } else { word.to_owned() }
                })
                .collect();
        assert_eq!(words, expected);
        assert!(lines.all(|line| line.starts_with("# ")), "{text}");
    }

    #[test]
    fn what_is_not_known_has_a_place_all_the_same() {
        let item = item(Record::default());
        let text = registration(&item, "/d/x");
        let expected = format!(
            "oneimage create --name {} --type OS --source /d/x --format raw --size 3\n",
            item.name
        );
        assert_eq!(text, expected);
        let end = format!("-  -  - -, 3 MiB on disk  {}  -\n", item.name);
        assert!(line(&item).ends_with(&end), "{}", line(&item));
        assert!(object(&item).contains("\"bytes\":3145728"));
    }
}
