//! What `oned.conf` says of datastore drivers, and the lines that it lacks.

use super::DsMad;
use std::fmt::Write as _;
use std::path::Path;

/// `DATASTORE_MAD`'s arguments where `oned.conf` has none that can be read: OpenNebula's default.
const DEFAULT_ARGUMENTS: &str =
    "-t 15 -d dummy,fs,lvm,ceph,dev,iscsi_libvirt -s shared,local,ceph,fs_lvm";

/// The option of `DATASTORE_MAD` that lists drivers.
const DRIVERS: &str = "-d";

/// What `oned.conf` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OnedConf {
    /// `DATASTORE_MAD/ARGUMENTS`.
    pub arguments: Option<String>,
    /// `DS_MAD_CONF/NAME` of each.
    pub ds_mads: Vec<String>,
    /// `TM_MAD_CONF/NAME` of each.
    pub tm_mads: Vec<String>,
}

impl OnedConf {
    /// Reads the file; one that can't be read says nothing.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for (section, name, value) in pairs(text) {
            match (section.as_str(), name.as_str()) {
                ("DATASTORE_MAD", "ARGUMENTS") => conf.arguments = Some(value),
                ("DS_MAD_CONF", "NAME") => conf.ds_mads.push(value),
                ("TM_MAD_CONF", "NAME") => conf.tm_mads.push(value),
                _ => {}
            }
        }
        conf
    }

    /// Names that the argument `-d` of `DATASTORE_MAD` lists.
    #[must_use]
    pub fn listed(&self) -> Vec<&str> {
        self.listed_after(DRIVERS)
    }

    /// Names that the argument `option` of `DATASTORE_MAD` lists.
    #[must_use]
    pub fn listed_after(&self, option: &str) -> Vec<&str> {
        let list = self.arguments.as_deref().map_or("", |arguments| list(arguments, option));
        list.split(',').filter(|name| !name.is_empty()).collect()
    }

    /// The arguments of `DATASTORE_MAD` with `name` in the list of drivers, too.
    #[must_use]
    pub fn arguments_with(&self, name: &str) -> String {
        let arguments = self.arguments.as_deref().unwrap_or(DEFAULT_ARGUMENTS);
        let list = list(arguments, DRIVERS);
        arguments.replacen(list, &format!("{list},{name}"), 1)
    }

    /// OpenNebula's own `DATASTORE_MAD`, on one line.
    #[must_use]
    pub fn default_line() -> String {
        format!(
            "DATASTORE_MAD = [ EXECUTABLE = \"one_datastore\", ARGUMENTS = \"{DEFAULT_ARGUMENTS}\" ]"
        )
    }

    /// The `DS_MAD_CONF` of a DS_MAD, on one line.
    #[must_use]
    pub fn block_line(mad: &DsMad) -> String {
        block(mad).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The text that tells which lines `oned.conf`, at `path`, needs for `mads`; `None` where it needs none at all.
    #[must_use]
    pub fn missing(&self, path: &Path, mads: &[DsMad]) -> Option<String> {
        // Every oned.conf has fs.
        let mads: Vec<&DsMad> = mads.iter().filter(|mad| mad.name != "fs").collect();
        let names: Vec<&str> = mads.iter().map(|mad| mad.name.as_str()).collect();
        if mads.is_empty() {
            return None;
        }
        let path = path.display();
        let arguments = self.arguments.as_deref().unwrap_or(DEFAULT_ARGUMENTS);
        let listed: Vec<&str> = list(arguments, DRIVERS).split(',').collect();
        let new: String = (names.iter().filter(|name| !listed.contains(*name)))
            .flat_map(|name| [",", *name])
            .collect();
        let blocks: String = (mads.iter().filter(|mad| !self.ds_mads.contains(&mad.name)))
            .map(|mad| block(mad))
            .collect();
        let names = names.join(" ");
        if new.is_empty() && blocks.is_empty() && self.arguments.is_some() {
            return Some(format!(
                "\noned.conf ({path}) has all that it needs for DS_MAD {names}.\n"
            ));
        }
        let mut text = format!("\noned.conf ({path}) needs these lines:\n");
        if !new.is_empty() || self.arguments.is_none() {
            let default = match self.arguments {
                Some(_) => "",
                None => " (it has none that could be read: compare with OpenNebula's default)",
            };
            let list = list(arguments, DRIVERS);
            let arguments = arguments.replacen(list, &format!("{list}{new}"), 1);
            let _ = write!(
                text,
                "\n# in the place of its DATASTORE_MAD{default}\nDATASTORE_MAD = [\n    \
                 EXECUTABLE = \"one_datastore\",\n    ARGUMENTS  = \"{arguments}\"\n]\n"
            );
        }
        let _ = write!(
            text,
            "{blocks}\nThen restart oned (systemctl restart opennebula) and create datastores with DS_MAD {names}.\n"
        );
        Some(text)
    }
}

/// The value of `option` in the arguments of DATASTORE_MAD.
fn list<'a>(arguments: &'a str, option: &str) -> &'a str {
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        match word.strip_prefix(option) {
            Some("") => return words.next().unwrap_or_default(),
            Some(list) => return list,
            None => {}
        }
    }
    ""
}

/// What oned must know of a driver of this kind, beside its name.
fn block(mad: &DsMad) -> String {
    let attributes = match mad.kind {
        "fs" => {
            "REQUIRED_ATTRS = \"\", PERSISTENT_ONLY = \"NO\",\n    MARKETPLACE_ACTIONS = \"export\""
        }
        "ceph" => {
            "REQUIRED_ATTRS = \"DISK_TYPE\", PERSISTENT_ONLY = \"NO\",\n    MARKETPLACE_ACTIONS = \"export\""
        }
        "dev" => "REQUIRED_ATTRS = \"DISK_TYPE\", PERSISTENT_ONLY = \"YES\"",
        "iscsi_libvirt" => "REQUIRED_ATTRS = \"DISK_TYPE,ISCSI_HOST\", PERSISTENT_ONLY = \"YES\"",
        "virtiofs" => {
            "REQUIRED_ATTRS = \"\", PERSISTENT_ONLY = \"NO\",\n    DATASTORE_CAPACITY_CHECK = \"NO\""
        }
        _ => "REQUIRED_ATTRS = \"\", PERSISTENT_ONLY = \"NO\"",
    };
    format!("\nDS_MAD_CONF = [\n    NAME = \"{}\", {attributes}\n]\n", mad.name)
}

/// Section, name and value of everything inside brackets. The syntax is that of OpenNebula's templates (`Template.l`):
/// `NAME = VALUE`, or `NAME = [ NAME = VALUE, ... ]`; names in any case; `#` begins a comment.
fn pairs(text: &str) -> Vec<(String, String, String)> {
    let mut pairs = Vec::new();
    let mut section = None;
    let mut name = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' => {
                let length = quoted(rest);
                let value = rest[1..length].trim_end_matches('"').to_owned();
                if let Some(section) = &section {
                    pairs.push((String::clone(section), std::mem::take(&mut name), value));
                }
                length
            }
            '[' => {
                section = Some(std::mem::take(&mut name));
                1
            }
            ']' => {
                section = None;
                1
            }
            _ => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
                let word = &rest[..end.unwrap_or(rest.len())];
                if !word.is_empty() {
                    name = word.to_ascii_uppercase();
                }
                word.len().max(first.len_utf8())
            }
        };
        rest = &rest[length..];
    }
    pairs
}

/// How long a quoted value is with its quotes, bytes. A backslash takes the meaning from a quote.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            _ => escaped = character == '\\' && !escaped,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONF: &str = "# DATASTORE_MAD = [ ARGUMENTS = \"-d commented,out\" ]\n\
        TM_MAD = [ EXECUTABLE = \"one_tm\", ARGUMENTS = \"-t 9 -d dummy,ssh\" ]\n\
        LOG = [ SYSTEM = \"a \\\" ] # quoted\" ]\n\
        datastore_mad = [\n  EXECUTABLE = \"one_datastore\", # why\n\
        ARGUMENTS  = \"-t 20 -d dummy,fs,dev -s shared\"\n]\n\
        DS_MAD_CONF = [\n NAME = \"dev\", REQUIRED_ATTRS = \"\" ]\nTM_MAD_CONF=[NAME=\"shared\"]\nPORT = 2633\n";

    #[test]
    fn the_sections_are_read_and_comments_are_not() {
        let conf = OnedConf::parse(CONF);
        assert_eq!(conf.arguments.as_deref(), Some("-t 20 -d dummy,fs,dev -s shared"));
        assert_eq!(conf.listed(), ["dummy", "fs", "dev"]);
        assert_eq!((conf.ds_mads, conf.tm_mads), (vec!["dev".into()], vec!["shared".into()]));
    }

    #[test]
    fn a_file_that_is_no_configuration_says_nothing() {
        for text in ["", "[[[", "\"", "a = [ \"", "\u{e9}\u{fffd} = [ é = \"ü\\", "]=[#"] {
            let conf = OnedConf::parse(text);
            assert_eq!((conf.arguments, conf.ds_mads.len()), (None, 0), "{text}");
        }
    }

    #[test]
    fn only_what_is_missing_is_named() {
        let conf = OnedConf::parse(CONF);
        let mads = |names: &[&str]| -> Vec<DsMad> {
            names.iter().map(|name| DsMad::new("fs", Some(name)).unwrap()).collect()
        };
        let path = Path::new("/etc/one/oned.conf");
        assert_eq!(conf.missing(path, &mads(&["fs"])), None);
        assert!(conf.missing(path, &mads(&["dev"])).unwrap().contains("has all that it needs"));
        let lines = conf.missing(path, &mads(&["fs", "mine"])).unwrap();
        assert!(lines.contains("\"-t 20 -d dummy,fs,dev,mine -s shared\""), "{lines}");
        assert!(lines.contains("NAME = \"mine\"") && !lines.contains("NAME = \"fs\""), "{lines}");
    }
}
