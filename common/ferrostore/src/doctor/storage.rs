//! The directories of datastores: who may write there, their SELinux type, and free space.

use super::Findings;
use super::oned::{Datastore, Known};
use crate::installation::{DsMad, FrontEnd, OnedConf};
use nix::sys::statvfs::statvfs;
use nix::unistd::User;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const TOPIC: &str = "datastores";
/// Less free space than this is worth a warning, percent.
const LOW_SPACE: u64 = 10;
/// Less than this is a problem, percent.
const NO_SPACE: u64 = 2;

pub(super) fn check(
    front_end: &FrontEnd,
    known: Option<&Known>,
    mads: &[DsMad],
    conf: &OnedConf,
    findings: &mut Findings,
) {
    let before = findings.0.len();
    let mut count = 0;
    for (name, directory) in directories(front_end, known) {
        count += 1;
        check_owner(&name, &directory, findings);
        check_type(&name, &directory, findings);
        check_space(&name, &directory, findings);
    }
    for datastore in known.into_iter().flat_map(|known| &known.datastores) {
        check_drivers(datastore, mads, conf, findings);
    }
    if findings.0.len() == before {
        findings
            .ok(TOPIC, format!("{count} directories: owner, permissions and free space are good"));
    }
}

/// Name and directory of each datastore of files on this machine.
fn directories(front_end: &FrontEnd, known: Option<&Known>) -> Vec<(String, PathBuf)> {
    const IMAGES: &str = "0";
    const FILES: &str = "2";
    if let Some(known) = known {
        let here = known.datastores.iter().filter(|datastore| {
            let local = datastore.template.bridge_list.trim().is_empty();
            local && datastore.ds_mad == "fs" && [IMAGES, FILES].contains(&datastore.kind.as_str())
        });
        let pair = |datastore: &Datastore| {
            (format!("{} ({})", datastore.id, datastore.name), PathBuf::from(&datastore.base_path))
        };
        return here.map(pair).collect();
    }
    let Some(var) = front_end.remotes.parent() else { return Vec::new() };
    let entries = fs::read_dir(var.join("datastores")).into_iter().flatten().flatten();
    let numbered =
        entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    let mut all: Vec<_> = numbered
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    all.sort();
    all
}

fn check_owner(name: &str, directory: &Path, findings: &mut Findings) {
    const OWNER_MAY_ALL: u32 = 0o700;
    let shown = directory.display();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        // monitor makes it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => {
            let text = format!("datastore {name}: {shown} can't be read: {error}");
            return findings.problem(TOPIC, text, "run this as root or oneadmin");
        }
    };
    if !metadata.is_dir() {
        let text = format!("datastore {name}: {shown} is no directory");
        return findings.problem(TOPIC, text, format!("move it away, then: mkdir {shown}"));
    }
    let oneadmin = User::from_name("oneadmin").ok().flatten();
    if let Some(oneadmin) = oneadmin.filter(|user| user.uid.as_raw() != metadata.uid()) {
        let text = format!(
            "datastore {name}: {shown} belongs to user {}, not to oneadmin",
            metadata.uid()
        );
        let group = oneadmin.gid;
        findings.problem(TOPIC, text, format!("chown oneadmin:{group} {shown}"));
    } else if metadata.mode() & OWNER_MAY_ALL != OWNER_MAY_ALL {
        let mode = metadata.mode() & 0o7777;
        let text = format!(
            "datastore {name}: the mode of {shown} is {mode:o}: its owner may not write there"
        );
        findings.problem(TOPIC, text, format!("chmod u+rwx {shown}"));
    }
}

/// A type that virtual machines can't open, where SELinux is on.
fn check_type(name: &str, directory: &Path, findings: &mut Findings) {
    const UNUSABLE: [&str; 4] = ["unlabeled_t", "default_t", "tmp_t", "user_home_t"];
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return;
    }
    let Ok(Some(context)) = xattr::get(directory, "security.selinux") else { return };
    let context = String::from_utf8_lossy(&context);
    let kind = context.trim_end_matches('\0').split(':').nth(2).unwrap_or_default();
    if UNUSABLE.contains(&kind) {
        let shown = directory.display();
        findings.warning(
            TOPIC,
            format!("datastore {name}: the SELinux type of {shown} is {kind}: virtual machines may not open its images"),
            format!("semanage fcontext -a -t virt_image_t '{shown}(/.*)?' && restorecon -R {shown}"),
        );
    }
}

fn check_space(name: &str, directory: &Path, findings: &mut Findings) {
    let Ok(space) = statvfs(directory) else { return };
    let total = space.blocks().max(1);
    let percent = space.blocks_available() * 100 / total;
    let text = format!("datastore {name}: {percent} % of {} is free", directory.display());
    let remedy =
        "delete images or add space; `ferrostore fsck DIRECTORY` lists left-overs and orphans";
    if percent < NO_SPACE {
        findings.problem("space", text, remedy);
    } else if percent < LOW_SPACE {
        findings.warning("space", text, remedy);
    }
}

/// Whether oned can call the drivers that a datastore names.
fn check_drivers(datastore: &Datastore, mads: &[DsMad], conf: &OnedConf, findings: &mut Findings) {
    const SYSTEM: &str = "1";
    let (id, name) = (&datastore.id, &datastore.name);
    if conf.arguments.is_none() || datastore.kind == SYSTEM {
        return;
    }
    if !mads.iter().any(|mad| mad.name == datastore.ds_mad) {
        return;
    }
    if !conf.tm_mads.contains(&datastore.tm_mad) {
        findings.problem(
            TOPIC,
            format!("datastore {id} ({name}): oned.conf has no TM_MAD_CONF with NAME \"{}\", its TM_MAD", datastore.tm_mad),
            "its TM_MAD_CONF, as in OpenNebula's own oned.conf, then: systemctl restart opennebula",
        );
    }
}
