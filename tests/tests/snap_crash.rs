//! A driver that is killed at any moment leaves the old state or the new one, and nothing that
//! the next call on the datastore does not sweep.

use ferrostore_tests::layouts::{Chain, Copies, Layout, Snapshots};
use ferrostore_tests::{Cloud, Listing, run};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The calls that change what a directory holds, or make it durable.
const MOMENTS: &str = "rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,\
    symlinkat,mkdir,mkdirat,fsync,fdatasync,ftruncate,fchmod,fchown,flock";

/// No action needs more of them than this.
const MANY: u32 = 300;

fn holds(disk: &Path, format: &str, reference: &Path) -> bool {
    let Ok(disk) = disk.canonicalize() else {
        return false;
    };
    let output = Command::new("qemu-img")
        .args(["compare", "-q", "-f", format, "-F", "raw"])
        .args([disk.as_path(), reference])
        .output()
        .expect("qemu-img is installed");
    output.status.success()
}

/// One image of either kind, its live disk and its format.
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

    fn disk_holds(&self, number: u32) -> bool {
        holds(&self.disk(), self.format, self.snapshots.reference(number))
    }

    fn snapshot_is_whole(&self, number: u32) -> bool {
        let file = self.snapshots.file(number);
        holds(&file, self.format, self.snapshots.reference(number))
    }
}

/// Kills `action` before its first, second, ... call of [`MOMENTS`], each time from the same
/// start, until it gets through; `check` looks at what each kill left.
fn killed_at_any_moment(
    cloud: &Cloud,
    image: &Image,
    (action, target): (&str, u32),
    check: impl Fn(&Image, u32),
) {
    let pristine = cloud.outside().join("pristine");
    let datastore = cloud.datastore();
    let (from, to) = (datastore.to_str().unwrap(), pristine.to_str().unwrap());
    run("cp", ["-a", "--sparse=always", from, to]);
    for moment in 1..MANY {
        let inject = format!("inject={MOMENTS}:signal=KILL:when={moment}");
        let outcome = image
            .snapshots
            .call(action, target)
            .under(["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject])
            .run();
        if outcome.status.success() {
            assert!(moment > 1, "the injection works");
            return;
        }
        // strace ends as its child did.
        assert_eq!(outcome.status.signal(), Some(9), "{outcome:?}");
        check(image, moment);

        cloud.monitor().run().succeeds();
        let left = Listing::of(&datastore);
        let staged: Vec<_> =
            left.names().into_iter().filter(|name| name.contains(".ferrostore")).collect();
        assert_eq!(staged, [""; 0], "kill {moment} leaves what is not swept");
        check(image, moment);

        // The user tries again; where it had got through, there may be nothing left to do.
        let _ = image.snapshots.call(action, target).run();
        if action == "snap_delete" {
            assert!(image.disk_holds(image.live), "kill {moment}, then again");
        } else {
            assert!(image.disk_holds(target), "kill {moment}, then again");
        }

        fs::remove_dir_all(&datastore).unwrap();
        run("cp", ["-a", "--sparse=always", to, from]);
    }
    panic!("{action} does not end");
}

/// The snapshots are all there; the disk is the old one or the snapshot.
fn reverted_or_not(image: &Image, target: u32, moment: u32) {
    assert!(
        image.disk_holds(image.live) || image.disk_holds(target),
        "kill {moment}: the disk is neither the old one nor the new one"
    );
    for id in image.ids {
        assert!(image.snapshot_is_whole(*id), "kill {moment}: snapshot {id}");
    }
}

/// The disk is the snapshot; or else nothing happened yet.
fn flattened_or_not(image: &Image, target: u32, moment: u32) {
    if image.disk_holds(target) {
        return;
    }
    assert!(
        image.disk_holds(image.live),
        "kill {moment}: the disk is neither the old one nor the new one"
    );
    for id in image.ids {
        assert!(image.snapshot_is_whole(*id), "kill {moment}: snapshot {id}");
    }
}

/// The disk is as it was, and so is every snapshot but the one that goes.
fn deleted_or_not(image: &Image, target: u32, moment: u32) {
    assert!(image.disk_holds(image.live), "kill {moment}: the disk");
    for id in image.ids.iter().filter(|id| **id != target) {
        assert!(image.snapshot_is_whole(*id), "kill {moment}: snapshot {id}");
    }
    let file = image.snapshots.file(target);
    assert!(
        file.symlink_metadata().is_err() || image.snapshot_is_whole(target),
        "kill {moment}: snapshot {target} is half gone"
    );
}

const LAYOUTS: [Layout; 3] = [Layout::ABSOLUTE, Layout::SSH_SYSTEM, Layout::LOCAL];

fn on_chains(action: &str, target: u32, check: fn(&Image, u32, u32)) {
    for layout in LAYOUTS {
        let cloud = Cloud::new();
        let chain = Chain::tree(&cloud, layout);
        let image = Image {
            snapshots: &chain,
            format: "qcow2",
            ids: &[0, 1, 2, 3],
            live: 4,
            copies: false,
        };
        killed_at_any_moment(&cloud, &image, (action, target), |image, moment| {
            check(image, target, moment);
        });
    }
}

fn on_copies(action: &str, target: u32, check: fn(&Image, u32, u32)) {
    for format in ["raw", "qcow2"] {
        let cloud = Cloud::new();
        let copies = Copies::of_three(&cloud, format);
        let image =
            Image { snapshots: &copies, format, ids: &[0, 1, 2], live: Copies::LIVE, copies: true };
        killed_at_any_moment(&cloud, &image, (action, target), |image, moment| {
            check(image, target, moment);
        });
    }
}

#[test]
fn snap_revert_of_a_chain() {
    on_chains("snap_revert", 1, reverted_or_not);
}

#[test]
fn snap_revert_of_copies() {
    on_copies("snap_revert", 1, reverted_or_not);
}

#[test]
fn snap_flatten_of_a_chain() {
    on_chains("snap_flatten", 2, flattened_or_not);
}

#[test]
fn snap_flatten_of_a_chain_to_its_base() {
    on_chains("snap_flatten", 0, flattened_or_not);
}

#[test]
fn snap_flatten_of_copies() {
    on_copies("snap_flatten", 1, flattened_or_not);
}

#[test]
fn snap_delete_of_a_chain() {
    on_chains("snap_delete", 2, deleted_or_not);
}

#[test]
fn snap_delete_of_copies() {
    on_copies("snap_delete", 1, deleted_or_not);
}
