//! A driver that is killed at any moment leaves the old state or the new one, and nothing that
//! the next call on the datastore does not sweep.

use ferrostore_tests::layouts::{Chain, Copies, Layout, Snapshots};
use ferrostore_tests::{Cloud, Listing, run};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The calls that change what a directory holds, or make it durable.
const CALLS: [&str; 18] = [
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fchmod",
    "fchown",
    "flock",
];

/// No action makes the same call more often than this.
const MANY: u32 = 100;

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

/// Kills `action` before its first, second, ... of each of [`CALLS`], each time from the same
/// start; `check` looks at what each kill left.
fn killed_at_any_moment(
    cloud: &Cloud,
    image: &Image,
    (action, target): (&str, u32),
    check: impl Fn(&Image, &str),
) {
    let pristine = cloud.outside().join("pristine");
    let datastore = cloud.datastore();
    let (from, to) = (datastore.to_str().unwrap(), pristine.to_str().unwrap());
    run("cp", ["-a", "--sparse=always", from, to]);
    let mut kills = 0;
    for call in CALLS {
        for number in 1.. {
            assert!(number < MANY, "{action} does not end");
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let outcome = image
                .snapshots
                .call(action, target)
                .under(["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject])
                .run();
            let through = outcome.status.success();
            if !through {
                // strace ends as its child did.
                assert_eq!(outcome.status.signal(), Some(9), "{outcome:?}");
                kills += 1;
                let moment = format!("killed before {call} number {number}");
                check(image, &moment);
                after_a_kill(cloud, image, (action, target), &moment, &check);
            }
            fs::remove_dir_all(&datastore).unwrap();
            run("cp", ["-a", "--sparse=always", to, from]);
            if through {
                break;
            }
        }
    }
    assert!(kills >= 3, "the injection works: {kills}");
}

/// The next call on the datastore sweeps, and the user may try again.
fn after_a_kill(
    cloud: &Cloud,
    image: &Image,
    (action, target): (&str, u32),
    moment: &str,
    check: impl Fn(&Image, &str),
) {
    cloud.monitor().run().succeeds();
    let left = Listing::of(&cloud.datastore());
    let staged: Vec<_> =
        left.names().into_iter().filter(|name| name.contains(".ferrostore")).collect();
    assert_eq!(staged, [""; 0], "{moment}: something is not swept");
    check(image, moment);

    // Where it had got through, there may be nothing left to do: that it says so is no harm.
    let _ = image.snapshots.call(action, target).run();
    let disk = if action == "snap_delete" { image.live } else { target };
    assert!(image.disk_holds(disk), "{moment}, then again");
}

/// The snapshots are all there; the disk is the old one or the snapshot.
fn reverted_or_not(image: &Image, target: u32, moment: &str) {
    assert!(
        image.disk_holds(image.live) || image.disk_holds(target),
        "{moment}: the disk is neither the old one nor the new one"
    );
    for id in image.ids {
        assert!(image.snapshot_is_whole(*id), "{moment}: snapshot {id}");
    }
}

/// The disk is the snapshot; or else nothing happened yet.
fn flattened_or_not(image: &Image, target: u32, moment: &str) {
    if image.disk_holds(target) {
        return;
    }
    assert!(
        image.disk_holds(image.live),
        "{moment}: the disk is neither the old one nor the new one"
    );
    for id in image.ids {
        assert!(image.snapshot_is_whole(*id), "{moment}: snapshot {id}");
    }
}

/// The disk is as it was, and so is every snapshot but the one that goes.
fn deleted_or_not(image: &Image, target: u32, moment: &str) {
    assert!(image.disk_holds(image.live), "{moment}: the disk");
    for id in image.ids.iter().filter(|id| **id != target) {
        assert!(image.snapshot_is_whole(*id), "{moment}: snapshot {id}");
    }
    let file = image.snapshots.file(target);
    assert!(
        file.symlink_metadata().is_err() || image.snapshot_is_whole(target),
        "{moment}: snapshot {target} is half gone"
    );
}

const LAYOUTS: [Layout; 3] = [Layout::ABSOLUTE, Layout::SSH_SYSTEM, Layout::LOCAL];

fn on_chains(action: &str, target: u32, check: fn(&Image, u32, &str)) {
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

fn on_copies(action: &str, target: u32, check: fn(&Image, u32, &str)) {
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

/// Up to fifteen drivers run at once: none may take another's unfinished work for left-overs.
#[test]
fn a_driver_that_sweeps_meanwhile_disturbs_nobody() {
    for layout in LAYOUTS {
        for (action, target) in [("snap_flatten", 2), ("snap_revert", 1), ("snap_delete", 2)] {
            let cloud = Cloud::new();
            let chain = Chain::tree(&cloud, layout);
            // Slow enough that a sweep comes between any two steps.
            let slow = "inject=rename,renameat,renameat2,unlink,unlinkat,linkat:delay_enter=150000";
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", slow];
            std::thread::scope(|scope| {
                let work = scope.spawn(|| chain.call(action, target).under(strace).run());
                while !work.is_finished() {
                    let monitor = cloud.monitor().run();
                    assert!(monitor.status.success(), "{monitor:?}");
                }
                let outcome = work.join().unwrap();
                let said = outcome.stderr_text();
                assert!(outcome.status.success(), "{action} on {layout:?}: {said}");
            });
            if action == "snap_flatten" {
                chain.check_content(chain.source(), target);
                assert!(!chain.directory().exists());
            } else {
                chain.check_content(chain.file(3), 3);
            }
        }
    }
}
