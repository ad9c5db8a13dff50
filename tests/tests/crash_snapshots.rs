//! `rm` and the snapshot actions, with every fault at every system call that changes something: the image and all
//! its snapshots are as before, or as they shall be.

use ferrostore_tests::layouts::{Chain, Copies, Layout, Level, Snapshots};
use ferrostore_tests::{Cloud, Disk, FaultMatrix, Holds, KIB, MIB};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXT4: (&str, Disk) = ("ext4", Disk::Ext4(200 * MIB));
const XFS: (&str, Disk) = ("XFS", Disk::Xfs(320 * MIB));

/// Files that are quick to read, of which there are many to read.
const SMALL: Level = Level::of(MIB);

/// One image with its snapshots.
struct Image<'a, 'cloud> {
    snapshots: &'a Snapshots<'cloud>,
    format: &'static str,
    /// The snapshots that it has.
    ids: &'static [u32],
    /// The reference of its live disk.
    live: u32,
    copies: bool,
}

impl Image<'_, '_> {
    /// The file that a virtual machine would get as its disk: the transfer drivers take the one
    /// with the highest number, and `S` where there is none.
    fn disk(&self) -> PathBuf {
        let source = PathBuf::from(self.snapshots.source());
        if self.copies {
            return source;
        }
        let highest = fs::read_dir(self.snapshots.directory())
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
            .max();
        highest.map_or(source, |number| self.snapshots.file(number))
    }

    /// Whether what is at `disk` opens with all that it backs on, has nothing wrong in it, and holds what
    /// the reference `number` does.
    fn holds(&self, disk: &Path, number: u32) -> bool {
        let Ok(disk) = disk.canonicalize() else { return false };
        let qemu_img = |arguments: &[&str], files: &[&Path]| {
            let output = Command::new("qemu-img").args(arguments).args(files).output();
            output.expect("qemu-img is installed").status.success()
        };
        let compare = ["compare", "-q", "-f", self.format, "-F", "raw"];
        qemu_img(&compare, &[&disk, self.snapshots.reference(number)])
            && (self.format == "raw" || qemu_img(&["check", "-q", "-f", self.format], &[&disk]))
    }

    fn disk_holds(&self, number: u32) -> bool {
        self.holds(&self.disk(), number)
    }

    fn has_all_but(&self, gone: Option<u32>) -> bool {
        let mut ids = self.ids.iter().filter(|id| Some(**id) != gone);
        ids.all(|id| self.holds(&self.snapshots.file(*id), *id))
    }

    fn look(&self, action: &str, target: u32) -> Holds {
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        let source = PathBuf::from(self.snapshots.source());
        let file = self.snapshots.file(target);
        let after = match action {
            "rm" => !exists(&source),
            "snap_revert" => self.disk_holds(target) && self.has_all_but(None),
            "snap_delete" => {
                !exists(&file) && self.disk_holds(self.live) && self.has_all_but(Some(target))
            }
            _ => !exists(&self.snapshots.directory()) && self.disk_holds(target),
        };
        if after {
            Holds::After
        } else if self.disk_holds(self.live) && self.has_all_but(None) {
            Holds::Before
        } else if self.copies && self.disk_holds(target) && self.has_all_but(None) {
            Holds::Underway
        } else {
            Holds::Neither
        }
    }

    fn inject_all(&self, name: &str, cloud: &Cloud, action: &str, target: u32) {
        let call = match action {
            "rm" => cloud.rm(self.snapshots.source()),
            _ => self.snapshots.call(action, target),
        };
        let look = || self.look(action, target);
        let name = format!("{action} {target}, {name}");
        FaultMatrix { name, cloud, call, look: &look, creates: false, once: false }.inject_all();
        // Whatever was removed is removed whole.
        if action == "rm" {
            let left: Vec<_> = cloud.listing().names().into_iter().map(str::to_owned).collect();
            let own = self.snapshots.name();
            assert!(!left.iter().any(|name| name.contains(own)), "{left:?}");
        }
    }
}

const ACTIONS: [(&str, u32); 5] =
    [("snap_revert", 1), ("snap_delete", 2), ("snap_flatten", 2), ("snap_flatten", 0), ("rm", 0)];

fn chain(layout: Layout, (on, disk): (&str, Disk)) {
    for (action, target) in ACTIONS {
        let cloud = Cloud::on_quick(disk);
        let chain = Chain::tree_of(&cloud, layout, SMALL);
        let snapshots = &*chain;
        let image =
            Image { snapshots, format: "qcow2", ids: &[0, 1, 2, 3], live: 4, copies: false };
        let (tm, naming, base) = (layout.tm_mad, layout.naming, layout.base);
        let name = format!("chain ({tm}, names {naming:?}, base {base:?}), {on}");
        image.inject_all(&name, &cloud, action, target);
    }
}

fn copies(format: &'static str, (on, disk): (&str, Disk)) {
    for (action, target) in ACTIONS {
        let cloud = Cloud::on_quick(disk);
        let copies = Copies::of_three_by(&cloud, format, 128 * KIB);
        let image =
            Image { snapshots: &copies, format, ids: &[0, 1, 2], live: Copies::LIVE, copies: true };
        image.inject_all(&format!("copies in {format}, {on}"), &cloud, action, target);
    }
}

/// A file that carries another snapshot's content, as live deletions leave it.
#[test]
fn a_snapshot_whose_content_is_in_another_file() {
    for (action, target) in [("snap_delete", 2), ("snap_flatten", 2)] {
        let cloud = Cloud::on_quick(EXT4.1);
        let mut chain = Chain::tree_of(&cloud, Layout::ABSOLUTE, SMALL);
        let carrier = chain.file(2).with_file_name("7");
        fs::rename(chain.file(2), &carrier).unwrap();
        chain.overlay(9, 3, SMALL);
        chain.current(2, &carrier);
        let look = || {
            let image = Image {
                snapshots: &chain,
                format: "qcow2",
                ids: &[0, 1, 3],
                live: 9,
                copies: false,
            };
            let there = image.holds(&carrier, 2);
            let pointer = chain.file(2).with_file_name("2.current").exists();
            let others = image.disk_holds(9) && image.has_all_but(None);
            match action {
                "snap_delete" if others && !carrier.exists() => Holds::After,
                "snap_flatten" if !chain.directory().exists() && image.disk_holds(2) => {
                    Holds::After
                }
                _ if others && there && pointer => Holds::Before,
                _ => Holds::Neither,
            }
        };
        let name = format!("{action} {target}, chain with a .current file, ext4");
        let call = chain.call(action, target);
        FaultMatrix { name, cloud: &cloud, call, look: &look, creates: false, once: false }
            .inject_all();
    }
}

#[test]
fn a_chain_with_absolute_names() {
    chain(Layout::ABSOLUTE, EXT4);
}

#[test]
fn a_chain_with_absolute_names_on_xfs() {
    chain(Layout::ABSOLUTE, XFS);
}

#[test]
fn a_chain_with_relative_names() {
    chain(Layout::RELATIVE, EXT4);
}

#[test]
fn a_chain_with_relative_names_and_links() {
    chain(Layout::MOVABLE, EXT4);
}

#[test]
fn a_chain_whose_base_is_named_as_the_image() {
    chain(Layout::RESOLVED, EXT4);
}

#[test]
fn a_chain_whose_base_is_named_as_the_image_on_xfs() {
    chain(Layout::RESOLVED, XFS);
}

#[test]
fn a_chain_after_a_system_datastore_on_ssh() {
    chain(Layout::SSH_SYSTEM, EXT4);
}

#[test]
fn a_chain_after_a_system_datastore_on_ssh_with_an_absolute_link() {
    chain(Layout::SSH_SYSTEM_ABSOLUTE, EXT4);
}

#[test]
fn a_chain_under_local() {
    chain(Layout::LOCAL, EXT4);
}

#[test]
fn a_chain_under_local_with_the_base_in_place() {
    chain(Layout::LOCAL_IN_PLACE, XFS);
}

#[test]
fn raw_copies() {
    copies("raw", EXT4);
}

#[test]
fn raw_copies_on_xfs() {
    copies("raw", XFS);
}

#[test]
fn qcow2_copies() {
    copies("qcow2", EXT4);
}
