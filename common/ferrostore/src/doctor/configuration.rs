//! `oned.conf` and `datastore.conf`.

use super::Findings;
use crate::installation::{DsMad, FrontEnd, OnedConf};
use one_protocol::settings::{Settings, SettingsError};
use std::path::Path;

/// The settings that the drivers read from `datastore.conf`; besides these, `FS_OPTS_<fs>`.
pub const DATASTORE_CONF_KEYS: [&str; 11] = [
    "SUPPORTED_FS",
    "LOCK_WAIT",
    "MAX_VIRTUAL_SIZE",
    "DECOMPRESS_MEMORY",
    "IMAGE_MODE",
    "CALL_LOG",
    "PROGRESS",
    "KEYRING",
    "REQUIRE_DIGEST",
    "REQUIRE_SIGNATURE",
    "TRASH",
];
/// Settings that other programs of OpenNebula read from the same file.
pub const OTHER_KEYS: [&str; 4] = ["MONITOR_VM_DISKS", "TRIM", "MOUNT_OPTS", "QCOW2_OPTIONS"];

const TOPIC: &str = "oned.conf";

/// The transfer drivers that can be used with a kind; one of them must be configured.
fn transfer_drivers(kind: &str) -> &'static [&'static str] {
    match kind {
        "fs" => &["shared", "qcow2", "ssh", "local", "fs_lvm", "fs_lvm_ssh"],
        "lvm" => &["fs_lvm", "fs_lvm_ssh", "lvm"],
        "ceph" => &["ceph"],
        "dev" => &["dev"],
        "iscsi_libvirt" => &["iscsi_libvirt"],
        _ => &[],
    }
}

pub(super) fn check_oned_conf(path: &Path, mads: &[DsMad], findings: &mut Findings) {
    let remedy = "run this as root or oneadmin";
    if let Err(error) = std::fs::read(path) {
        findings.warning(TOPIC, format!("{} can't be read: {error}", path.display()), remedy);
        return;
    }
    let conf = OnedConf::read(path);
    let before = findings.0.len();
    let restart = "then: systemctl restart opennebula";
    if conf.arguments.is_none() {
        findings.problem(
            TOPIC,
            format!("{} has no DATASTORE_MAD with ARGUMENTS", path.display()),
            format!("{}, {restart}", OnedConf::default_line()),
        );
    }
    for (option, list) in [("-d", conf.listed()), ("-s", conf.listed_after("-s"))] {
        for name in doubles(&list) {
            findings.problem(
                TOPIC,
                format!("DATASTORE_MAD/ARGUMENTS names {name} twice after {option}"),
                format!("take one of them out of {}, {restart}", path.display()),
            );
        }
    }
    for (section, names) in [("DS_MAD_CONF", &conf.ds_mads), ("TM_MAD_CONF", &conf.tm_mads)] {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in doubles(&names) {
            findings.problem(
                TOPIC,
                format!("there are two {section} with NAME \"{name}\""),
                format!("take one of them out of {}, {restart}", path.display()),
            );
        }
    }
    for mad in mads {
        check_names(&conf, mad, path, restart, findings);
    }
    if findings.0.len() == before {
        findings.ok(TOPIC, format!("{} has all that the enabled kinds need", path.display()));
    }
}

fn check_names(conf: &OnedConf, mad: &DsMad, path: &Path, restart: &str, findings: &mut Findings) {
    if conf.arguments.is_some() && !conf.listed().contains(&mad.name.as_str()) {
        findings.problem(
            TOPIC,
            format!("DATASTORE_MAD/ARGUMENTS does not name {} after -d: oned says that its driver is not available", mad.name),
            format!("ARGUMENTS = \"{}\" in {}, {restart}", conf.arguments_with(&mad.name), path.display()),
        );
    }
    if !conf.ds_mads.contains(&mad.name) {
        findings.problem(
            TOPIC,
            format!("there is no DS_MAD_CONF with NAME \"{}\"", mad.name),
            format!("{} in {}, {restart}", OnedConf::block_line(mad), path.display()),
        );
    }
    let transfer = transfer_drivers(mad.kind);
    let has = transfer.iter().any(|name| conf.tm_mads.iter().any(|known| known == name));
    if !transfer.is_empty() && !has {
        findings.problem(
            TOPIC,
            format!("none of the transfer drivers of {} has a TM_MAD_CONF: {}", mad.kind, transfer.join(", ")),
            format!("the TM_MAD_CONF of one of them, as in OpenNebula's own oned.conf, in {}, {restart}", path.display()),
        );
    }
}

/// Names that are there more than once, once each.
fn doubles<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut doubles = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) && !doubles.contains(name) {
            doubles.push(*name);
        }
    }
    doubles
}

pub(super) fn check_datastore_conf(
    front_end: &FrontEnd,
    settings: &Settings,
    findings: &mut Findings,
) {
    let topic = "settings";
    let path = front_end.remotes.join("etc/datastore/datastore.conf");
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let text = format!("{} can't be read: {error}", path.display());
            return findings.problem(topic, text, format!("chmod 0644 {}", path.display()));
        }
    };
    let before = findings.0.len();
    for (number, line) in text.lines().enumerate() {
        let Some(key) = key(line) else { continue };
        let known = DATASTORE_CONF_KEYS.contains(&key) || OTHER_KEYS.contains(&key);
        if !known && !key.starts_with("FS_OPTS_") {
            findings.warning(
                topic,
                format!(
                    "line {} of {}: {key} is a setting of no driver, and ignored",
                    number + 1,
                    path.display()
                ),
                format!("take the line out, or write one of {}", DATASTORE_CONF_KEYS.join(", ")),
            );
        }
    }
    let values: [Result<(), SettingsError>; 5] = [
        settings.largest_disk().map(drop),
        settings.decompress_memory().map(drop),
        settings.image_mode().map(drop),
        settings.lock_wait().map(drop),
        settings.supported_file_systems().map(drop),
    ];
    for error in values.into_iter().filter_map(Result::err) {
        findings.problem(topic, error.to_string(), format!("correct it in {}", path.display()));
    }
    if findings.0.len() == before {
        findings.ok(topic, format!("{}: all settings are known and valid", path.display()));
    }
}

/// What a line of a configuration file gives a value to.
fn key(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, _) = line.split_once('=')?;
    let key = key.trim_end();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!key.is_empty() && key.chars().all(valid)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_sets_something_names_it() {
        assert_eq!(key(" export LOCK_WAIT = 3"), Some("LOCK_WAIT"));
        for line in ["", "# LOCK_WAIT=3", "echo a=b", "=", "LOCK WAIT=1"] {
            assert_eq!(key(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_named_twice_is_found_once() {
        assert_eq!(doubles(&["fs", "dev", "fs", "fs"]), ["fs"]);
    }
}
