//! The power goes: in the middle of an action, at any system call that changes something, and right after its
//! reply. What was replied is on disk; what wasn't is there as before or as it shall be.

use ferrostore_tests::layouts::{Chain, Copies, Layout, Level};
use ferrostore_tests::{Call, Cloud, Contents, Disk, FaultMatrix, Holds, KIB, MIB};
use std::path::{Path, PathBuf};
use std::process::Command;

const DISKS: [(&str, Disk); 2] = [("ext4", Disk::Ext4(200 * MIB)), ("XFS", Disk::Xfs(320 * MIB))];

fn same(image: &Path, format: &str, reference: &Path) -> bool {
    let Ok(image) = image.canonicalize() else { return false };
    let output = Command::new("qemu-img")
        .args(["compare", "-q", "-f", format, "-F", "raw"])
        .args([&image, reference])
        .output()
        .expect("qemu-img is installed");
    output.status.success()
}

fn new_image(name: String, cloud: &Cloud, call: Call, format: &str, reference: &Path) {
    let start: Vec<String> = Contents::of(&cloud.datastore()).names().map(str::to_owned).collect();
    let look = || {
        let now = Contents::of(&cloud.datastore());
        let mut new = now.names().filter(|name| !start.iter().any(|old| old == name));
        match new.next().map(|name| same(&cloud.datastore().join(name), format, reference)) {
            None => Holds::Before,
            Some(true) => Holds::After,
            Some(false) => Holds::Neither,
        }
    };
    FaultMatrix { name, cloud, call, look: &look, creates: true, once: false }.cut_power();
}

#[test]
fn while_a_new_image_is_made() {
    for (on, disk) in DISKS {
        let cloud = Cloud::on_quick(disk);
        let raw = cloud.raw("disk.img", MIB);
        let zeros = cloud.file("zeros", vec![0; 8 << 20]);
        let call = cloud.cp(&raw).driver("qcow2");
        new_image(format!("cp to qcow2, {on}"), &cloud, call, "qcow2", &raw);
        new_image(format!("mkfs raw, {on}"), &cloud, cloud.mkfs("raw", "8"), "raw", &zeros);
        let source = cloud.stored(1, &raw);
        let call = cloud.clone_of(&source, "raw");
        new_image(format!("clone, {on}"), &cloud, call, "raw", &raw);
    }
}

/// The file that the transfer drivers take for the disk.
fn disk_of(chain: &Chain, highest: u32) -> PathBuf {
    let highest = chain.file(highest);
    if highest.exists() { highest } else { chain.source().into() }
}

#[test]
fn while_a_chain_is_worked_on() {
    for (on, disk) in DISKS {
        for (action, target) in
            [("snap_revert", 1), ("snap_delete", 2), ("snap_flatten", 2), ("rm", 0)]
        {
            let cloud = Cloud::on_quick(disk);
            let chain = Chain::tree_of(&cloud, Layout::RELATIVE, Level::of(MIB));
            let is = |file: &Path, number| same(file, "qcow2", chain.reference(number));
            let snapshots = |but: Option<u32>| {
                (0..4).filter(|id| Some(*id) != but).all(|id| is(&chain.file(id), id))
            };
            let look = || {
                let live = disk_of(&chain, 4);
                let after = match action {
                    "rm" => !Path::new(&chain.source()).exists(),
                    "snap_revert" => is(&live, 1) && snapshots(None),
                    "snap_delete" => !chain.file(2).exists() && is(&live, 4) && snapshots(Some(2)),
                    _ => !chain.directory().exists() && is(&live, 2),
                };
                if after {
                    Holds::After
                } else if is(&live, 4) && snapshots(None) {
                    Holds::Before
                } else {
                    Holds::Neither
                }
            };
            let call = match action {
                "rm" => cloud.rm(chain.source()),
                _ => chain.call(action, target),
            };
            let name = format!("{action}, chain, {on}");
            FaultMatrix { name, cloud: &cloud, call, look: &look, creates: false, once: false }
                .cut_power();
        }
    }
}

#[test]
fn while_copies_are_worked_on() {
    for (on, disk) in DISKS {
        for (action, target) in [("snap_revert", 1), ("snap_delete", 2), ("snap_flatten", 1)] {
            let cloud = Cloud::on_quick(disk);
            let copies = Copies::of_three_by(&cloud, "raw", 128 * KIB);
            let source = PathBuf::from(copies.source());
            let is = |file: &Path, number| same(file, "raw", copies.reference(number));
            let snapshots = |but: Option<u32>| {
                (0..3).filter(|id| Some(*id) != but).all(|id| is(&copies.file(id), id))
            };
            let look = || {
                let after = match action {
                    "snap_revert" => is(&source, 1) && snapshots(None),
                    "snap_delete" => {
                        !copies.file(2).exists() && is(&source, Copies::LIVE) && snapshots(Some(2))
                    }
                    _ => !copies.directory().exists() && is(&source, 1),
                };
                if after {
                    Holds::After
                } else if is(&source, Copies::LIVE) && snapshots(None) {
                    Holds::Before
                } else if is(&source, target) && snapshots(None) {
                    Holds::Underway
                } else {
                    Holds::Neither
                }
            };
            let call = copies.call(action, target);
            let name = format!("{action}, copies, {on}");
            FaultMatrix { name, cloud: &cloud, call, look: &look, creates: false, once: false }
                .cut_power();
        }
    }
}
