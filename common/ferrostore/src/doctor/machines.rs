//! Other front-ends and bridge hosts, which are asked over ssh.

use super::Findings;
use super::oned::Known;
use crate::installation::{ACTIONS, DsMad, FrontEnd, is_ours};
use one_protocol::settings::Settings;
use runtime::command;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What a machine answered.
struct Answer {
    /// SHA-256 by path.
    digests: BTreeMap<PathBuf, String>,
    /// Version of its glibc.
    glibc: Option<(u32, u32)>,
}

pub(super) fn check(
    front_end: &FrontEnd,
    settings: &Settings,
    known: &Known,
    mads: &[DsMad],
    findings: &mut Findings,
) {
    let here = own_names();
    for host in known.front_ends.iter().filter(|host| !here.contains(*host)) {
        check_front_end(front_end, host, mads, findings);
    }
    let remotes = settings.remote_scripts().unwrap_or_else(|_| "/var/tmp/one".into());
    for (host, names) in bridge_hosts(known, mads) {
        let mads: Vec<&DsMad> = mads.iter().filter(|mad| names.contains(&mad.name)).collect();
        check_bridge_host(front_end, &remotes, &host, &mads, findings);
    }
}

/// Names of this machine.
fn own_names() -> BTreeSet<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_owned();
    let short = name.split('.').next().unwrap_or_default().to_owned();
    ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), name, short].into()
}

/// The bridge hosts of datastores that the drivers serve, and the names of their DS_MADs.
fn bridge_hosts(known: &Known, mads: &[DsMad]) -> BTreeMap<String, BTreeSet<String>> {
    let mut hosts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for datastore in &known.datastores {
        if mads.iter().any(|mad| mad.name == datastore.ds_mad) {
            for host in datastore.template.bridge_list.split_whitespace() {
                hosts.entry(host.to_owned()).or_default().insert(datastore.ds_mad.clone());
            }
        }
    }
    hosts
}

fn check_front_end(front_end: &FrontEnd, host: &str, mads: &[DsMad], findings: &mut Findings) {
    let topic = "front-ends";
    let files: Vec<PathBuf> = mads
        .iter()
        .flat_map(|mad| ACTIONS.map(|action| front_end.directory(mad).join(action)))
        .collect();
    let answer = match ask(host, &files) {
        Ok(answer) => answer,
        Err(why) => {
            let text = format!("{host} can't be asked: {why}");
            return findings.warning(topic, text, format!("as oneadmin: ssh {host} true"));
        }
    };
    let differing: BTreeSet<String> = files
        .iter()
        .filter(|path| answer.digests.get(*path) != digest(path).as_ref())
        .filter_map(|path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned()))
        .collect();
    if differing.is_empty() {
        return findings.ok(topic, format!("{host} has the same drivers"));
    }
    let names = differing.into_iter().collect::<Vec<_>>().join(" ");
    findings.problem(
        topic,
        format!("{host} has other drivers than this front-end, and will use them after a failover: {names}"),
        format!("on {host}: install the same package, then: ferrostore enable {names}"),
    );
}

fn check_bridge_host(
    front_end: &FrontEnd,
    remotes: &Path,
    host: &str,
    mads: &[&DsMad],
    findings: &mut Findings,
) {
    let topic = "bridge hosts";
    let place = |mad: &DsMad, action: &str| remotes.join("datastore").join(&mad.name).join(action);
    let files: Vec<PathBuf> =
        mads.iter().flat_map(|mad| ACTIONS.map(|action| place(mad, action))).collect();
    let answer = match ask(host, &files) {
        Ok(answer) => answer,
        Err(why) => {
            let text = format!("{host} can't be asked: {why}");
            return findings.problem(topic, text, format!("as oneadmin: ssh {host} true"));
        }
    };
    let own = |mad: &DsMad| front_end.directory(mad).join("cp");
    let needed = mads.iter().filter_map(|mad| needed_glibc(&own(mad))).max();
    if let (Some(has), Some(needs)) = (answer.glibc, needed)
        && has < needs
    {
        findings.problem(
            topic,
            format!(
                "{host} has glibc {}.{}, and the drivers need {}.{}",
                has.0, has.1, needs.0, needs.1
            ),
            "install the released package, whose drivers need glibc 2.28, on the front-ends",
        );
        return;
    }
    let same = mads.iter().all(|mad| {
        ACTIONS.iter().all(|action| {
            let path = front_end.directory(mad).join(action);
            !is_ours(&path) || answer.digests.get(&place(mad, action)) == digest(&path).as_ref()
        })
    });
    if same {
        findings.ok(topic, format!("{host} has the same drivers"));
    } else {
        let text = format!(
            "{host} has other drivers than the front-end, which sends its own where they are needed"
        );
        findings.warning(topic, text, "as oneadmin: onehost sync --force");
    }
}

/// Digests of files on a machine, and its glibc.
fn ask(host: &str, files: &[PathBuf]) -> Result<Answer, String> {
    let text = command::ssh_survey(host, files).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    let mut answer = Answer { digests: BTreeMap::new(), glibc: None };
    for line in text.lines() {
        if let Some(version) = line.strip_prefix("glibc ") {
            answer.glibc = numbers(version);
        } else if let Some((digest, path)) = line.split_once("  ") {
            answer.digests.insert(PathBuf::from(path), digest.to_owned());
        }
    }
    Ok(answer)
}

fn digest(path: &Path) -> Option<String> {
    let mut text = String::new();
    for byte in Sha256::digest(fs::read(path).ok()?) {
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

/// The newest version of glibc that an executable asks for: `GLIBC_2.28` in its table of strings.
fn needed_glibc(path: &Path) -> Option<(u32, u32)> {
    const PREFIX: &[u8] = b"GLIBC_";
    let bytes = fs::read(path).ok()?;
    let versions = bytes.windows(PREFIX.len() + 8).filter(|window| window.starts_with(PREFIX));
    versions
        .filter_map(|window| {
            let rest = &window[PREFIX.len()..];
            let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.');
            numbers(std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).ok()?)
        })
        .max()
}

/// Major and minor number.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.trim().split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_version_of_an_executable_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cp");
        fs::write(
            &path,
            b"\x7fELF\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.17\0GLIBC_PRIVATE\0\0\0\0\0\0\0\0",
        )
        .unwrap();
        assert_eq!(needed_glibc(&path), Some((2, 34)));
        assert_eq!(numbers("2.28"), Some((2, 28)));
        assert_eq!(numbers("x"), None);
    }
}
