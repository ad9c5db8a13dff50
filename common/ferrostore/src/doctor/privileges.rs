//! What oneadmin may do, and which programs there are.

use super::Findings;
use crate::installation::{DsMad, found, root_programs};
use nix::unistd::{Group, User, geteuid};
use runtime::command;
use std::path::Path;

const ONEADMIN: &str = "oneadmin";

pub(super) fn check(mads: &[DsMad], findings: &mut Findings) {
    let oneadmin = User::from_name(ONEADMIN).ok().flatten();
    if oneadmin.is_none() {
        findings.warning("oneadmin", "there is no user oneadmin", "reinstall OpenNebula's package");
    }
    let mut kinds: Vec<&str> = mads.iter().map(|mad| mad.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        if let Some(user) = &oneadmin {
            check_sudo(kind, user, findings);
            check_group(kind, user, findings);
        }
        check_programs(kind, findings);
    }
}

fn check_sudo(kind: &str, oneadmin: &User, findings: &mut Findings) {
    let topic = "sudo";
    let programs = root_programs(kind);
    if programs.is_empty() {
        return;
    }
    if !geteuid().is_root() && geteuid() != oneadmin.uid {
        let text = format!("what sudo allows oneadmin for {kind} can't be asked by another user");
        return findings.warning(topic, text, "sudo ferrostore doctor");
    }
    let place =
        |program: &&str| found(program).unwrap_or_else(|| Path::new("/usr/sbin").join(program));
    let missing: Vec<String> = (programs.iter().map(place))
        .filter(|path| !command::sudo_allows(ONEADMIN, path))
        .map(|path| path.display().to_string())
        .collect();
    if missing.is_empty() {
        return findings.ok(topic, format!("oneadmin may run what {kind} needs as root"));
    }
    findings.problem(
        topic,
        format!(
            "sudo does not let oneadmin run these as root, which {kind} needs: {}",
            missing.join(", ")
        ),
        format!(
            "in /etc/sudoers.d/ferrostore: oneadmin ALL=(root) NOPASSWD: {}",
            missing.join(", ")
        ),
    );
}

/// Block devices belong to the group `disk`.
fn check_group(kind: &str, oneadmin: &User, findings: &mut Findings) {
    let topic = "groups";
    if !["lvm", "dev"].contains(&kind) {
        return;
    }
    let Ok(Some(disk)) = Group::from_name("disk") else { return };
    if oneadmin.gid == disk.gid || disk.mem.iter().any(|member| member == ONEADMIN) {
        return findings.ok(topic, format!("oneadmin is in the group disk, which {kind} needs"));
    }
    findings.problem(
        topic,
        format!("oneadmin is not in the group disk: {kind} can't open block devices"),
        "usermod -a -G disk oneadmin, then: systemctl restart opennebula",
    );
}

/// Programs of a kind: the program, the packages that bring it, and whether nothing works without it.
fn programs(kind: &str) -> &'static [(&'static str, &'static str, bool)] {
    match kind {
        "fs" => &[("qemu-img", "qemu-utils (RHEL: qemu-img)", false)],
        "lvm" => &[
            ("lvs", "lvm2", true),
            ("lvcreate", "lvm2", true),
            ("qemu-img", "qemu-utils (RHEL: qemu-img)", false),
        ],
        "ceph" => &[("rbd", "ceph-common", false), ("ceph", "ceph-common", false)],
        _ => &[],
    }
}

fn check_programs(kind: &str, findings: &mut Findings) {
    let topic = "programs";
    let mut whole = true;
    for (program, package, needed) in programs(kind) {
        if found(program).is_some() {
            continue;
        }
        whole = false;
        let text = format!("{program} is not installed on this machine, and {kind} calls it");
        let remedy = format!("install {package}");
        if *needed {
            findings.problem(topic, text, remedy);
        } else {
            findings.warning(topic, text, remedy);
        }
    }
    if whole && !programs(kind).is_empty() {
        findings.ok(topic, format!("all that {kind} calls are installed"));
    }
}
