//! Volume groups, in the virtual machine.

use crate::{Call, Cloud, MIB, Outcome, run};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Programs of LVM that drivers call.
const PROGRAMS: [&str; 7] =
    ["lvcreate", "lvremove", "lvchange", "lvextend", "lvrename", "lvs", "vgdisplay"];
/// Where drivers look for programs first.
const IN_FRONT: &str = "/usr/local/sbin";
const CALLS: &str = "/run/lvm-calls";
const TRAP: &str = "/run/lvm-trap";
/// The scratch disk, which can discard blocks so that they read as zero, as arrays do.
const SCRATCH: &str = "/dev/vda";
/// Another one, which can only be written.
const PLAIN: &str = "/dev/vdb";
/// A disk that can be made to fail: its device, its size and its place on the scratch disk in sectors.
const FRAGILE: &str = "/dev/mapper/fragile";
const FRAGILE_SECTORS: u64 = 1 << 21;
const FRAGILE_START: u64 = 1 << 17;

/// A volume as `lvs` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `lv_attr`.
    pub attributes: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its thin pool, or nothing.
    pub pool: String,
    /// Its origin, or nothing.
    pub origin: String,
    /// Its tags.
    pub tags: String,
}

/// A front-end whose datastore 104 is the volume group `vg-one-104` on the scratch disk.
#[derive(Debug)]
pub struct Lvm {
    /// The front-end.
    pub cloud: Cloud,
}

impl Lvm {
    /// The group on a disk of zeroes.
    pub fn new() -> Self {
        Self::on(SCRATCH, None)
    }

    /// The group on a disk whose first `length` bytes are all `marker`.
    pub fn on_used_disk(marker: u8, length: u64) -> Self {
        Self::on(SCRATCH, Some((marker, length)))
    }

    /// As [`Lvm::on_used_disk`], on one that can't make its blocks read as zero but by writing them.
    pub fn on_used_plain_disk(marker: u8, length: u64) -> Self {
        Self::on(PLAIN, Some((marker, length)))
    }

    fn on(disk: &str, filled: Option<(u8, u64)>) -> Self {
        assert!(crate::is_virtual_machine(), "volume groups are for the virtual machine");
        for program in PROGRAMS {
            let _ = fs::remove_file(format!("{IN_FRONT}/{program}"));
        }
        let _ = fs::remove_dir_all("/var/lock/one");
        // Making the group anew takes seconds.
        if filled.is_none() && is_usable("vg-one-104") {
            run("lvremove", ["-q", "-ff", "-y", "vg-one-104"]);
            return Self { cloud: Cloud::new() };
        }
        clear();
        if let Some((marker, length)) = filled {
            let file = File::options().write(true).open(disk).unwrap();
            let piece = vec![marker; MIB as usize];
            for at in (0..length).step_by(piece.len()) {
                file.write_all_at(&piece, at).unwrap();
            }
            file.sync_all().unwrap();
        }
        run("vgcreate", ["-q", "-y", "vg-one-104", disk]);
        Self { cloud: Cloud::new() }
    }

    /// The group on a disk of 1 GiB that can be made to fail.
    pub fn on_fragile_disk() -> Self {
        assert!(crate::is_virtual_machine(), "volume groups are for the virtual machine");
        clear();
        run("dmsetup", ["create", "fragile", "--table", &fragile("linear", "")]);
        run("vgcreate", ["-q", "-y", "vg-one-104", FRAGILE]);
        Self { cloud: Cloud::new() }
    }

    /// Has the fragile disk fail from `offset` on.
    pub fn fails_from(&self, offset: u64) {
        let good = offset / 512;
        let table = format!(
            "0 {good} linear {SCRATCH} {FRAGILE_START}\n{good} {} error\n",
            FRAGILE_SECTORS - good
        );
        let file = self.cloud.root().join("table");
        fs::write(&file, table).unwrap();
        run("dmsetup", ["reload", "fragile", file.to_str().unwrap()]);
        run("dmsetup", ["suspend", "--noflush", "--nolockfs", "fragile"]);
        run("dmsetup", ["resume", "fragile"]);
    }

    /// A line for [`Lvm::watch`] that has every write to the fragile disk fail.
    pub fn taking_no_writes(&self) -> String {
        format!(
            "( export DM_DISABLE_UDEV=1; {} )",
            replace(&fragile("flakey", " 0 3600 1 error_writes"))
        )
    }

    /// Has nothing on the fragile disk fail any more.
    pub fn is_well(&self) {
        run("sh", ["-c", &replace(&fragile("linear", ""))]);
    }

    /// A call for image `id`.
    pub fn call(&self, action: &str, id: u32) -> Call<'_> {
        let call = self
            .cloud
            .call(action)
            .set("DATASTORE/DS_MAD", "lvm")
            .set("DATASTORE/TM_MAD", "lvm")
            .set("DATASTORE/TEMPLATE/DRIVER", "raw")
            .set_escaped("DATASTORE/DISK_TYPE", "3");
        if action == "monitor" { call } else { call.set_escaped("IMAGE/ID", id.to_string()) }
    }

    /// Registers the file `path`.
    pub fn cp(&self, id: u32, path: impl AsRef<std::path::Path>) -> Call<'_> {
        self.call("cp", id).path(path)
    }

    /// Makes an image of `size` MiB.
    pub fn mkfs(&self, id: u32, format: &str, size: u64) -> Call<'_> {
        self.call("mkfs", id)
            .set("IMAGE/TYPE", "2")
            .set("IMAGE/FORMAT", format)
            .set_escaped("IMAGE/SIZE", size.to_string())
    }

    /// Clones the image with the SOURCE `source`.
    pub fn clone_of(&self, id: u32, source: &str) -> Call<'_> {
        self.call("clone", id).set("IMAGE/PATH", source).set("IMAGE/FORMAT", "raw")
    }

    /// A call for an image that is there.
    pub fn on_image(&self, action: &str, id: u32) -> Call<'_> {
        self.call(action, id)
            .set("IMAGE/SOURCE", format!("vg-one-104/img-one-{id}"))
            .set("IMAGE/FORMAT", "raw")
    }

    /// `snap_revert`, `snap_flatten` or `snap_delete`.
    pub fn snap(&self, action: &str, id: u32, snapshot: u32) -> Call<'_> {
        persistent(self.on_image(action, id))
            .set_escaped("IMAGE/TARGET_SNAPSHOT", snapshot.to_string())
    }

    /// Takes snapshot `number` of a persistent image as the transfer driver does.
    pub fn take_snapshot(&self, id: u32, number: u32) {
        let (name, origin) =
            (format!("img-one-{id}_one_s{number}"), format!("vg-one-104/img-one-{id}"));
        run("lvcreate", ["-q", "-s", "-n", &name, &origin]);
        let pool = format!("vg-one-104/img-one-{id}-pool");
        run("lvextend", ["-q", "-L", "+16M", &pool]);
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Vec<Volume> {
        volumes("vg-one-104")
    }

    /// Names of all volumes.
    pub fn names(&self) -> Vec<String> {
        self.volumes().into_iter().map(|volume| volume.name).collect()
    }

    /// The volume `name`, which must be there.
    #[track_caller]
    pub fn volume(&self, name: &str) -> Volume {
        let found = self.volumes().into_iter().find(|volume| volume.name == name);
        found.unwrap_or_else(|| panic!("{name} is not among {:?}", self.names()))
    }

    /// All bytes of a volume.
    pub fn content(&self, name: &str) -> Vec<u8> {
        self.with_device(name, |device| {
            let mut bytes = Vec::new();
            File::open(device).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        })
    }

    /// Writes into a volume.
    pub fn write(&self, name: &str, bytes: &[u8], offset: u64) {
        self.with_device(name, |device| {
            let file = File::options().write(true).open(device).unwrap();
            file.write_all_at(bytes, offset).unwrap();
            file.sync_all().unwrap();
        });
    }

    /// Does something with a volume's device while it is active.
    pub fn with_device<T>(&self, name: &str, job: impl FnOnce(&PathBuf) -> T) -> T {
        let volume = format!("vg-one-104/{name}");
        run("lvchange", ["-K", "-ay", &volume]);
        let result = job(&PathBuf::from(format!("/dev/{volume}")));
        run("lvchange", ["-an", &volume]);
        result
    }

    /// Checks that no volume is active, tagged or locked, and that no journal is left.
    #[track_caller]
    pub fn is_at_rest(&self) {
        for volume in self.volumes() {
            let state = volume.attributes.chars().nth(4);
            assert_eq!(state, Some('-'), "{} is active: {}", volume.name, volume.attributes);
            assert_eq!(volume.tags, "", "{} is tagged", volume.name);
        }
        let left: Vec<_> = fs::read_dir("/var/lock/one")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("ferrostore"))
            .collect();
        assert_eq!(left, [""; 0], "locks are left");
        assert_eq!(self.cloud.listing().names(), [""; 0], "BASE_PATH is empty");
    }

    /// Has the programs of LVM that drivers call written down, and `trap` (a line for a shell that may look
    /// at `$count`, `$program` and `$driver`) run before each.
    pub fn watch(&self, trap: &str) {
        let _ = fs::remove_file(CALLS);
        fs::write(TRAP, trap).unwrap();
        fs::create_dir_all(IN_FRONT).unwrap();
        for program in PROGRAMS {
            let script = format!(
                "#!/bin/sh\nprogram={program} driver=$PPID count=0\necho \"$program $*\" >>{CALLS}\n\
                 while read -r _; do count=$((count + 1)); done <{CALLS}\n\
                 . {TRAP}\nexec /usr/sbin/$program \"$@\"\n"
            );
            let path = format!("{IN_FRONT}/{program}");
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Runs a call whose driver is killed when it starts its `step`th program of LVM, which runs to its
    /// end; whether it lived, since it starts fewer.
    pub fn killed_at(&self, step: usize, call: Call) -> (Outcome, bool) {
        self.watch(&format!("[ $count != {step} ] || kill -9 $driver"));
        let outcome = call.run();
        self.unwatch();
        self.settle();
        let lived = outcome.status.code() == Some(0);
        assert!(lived || outcome.status.code().is_none(), "{step}: {}", outcome.stderr_text());
        (outcome, lived)
    }

    /// The calls since [`Lvm::watch`].
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(CALLS).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until no program of LVM runs any more: one that a killed driver has started goes on.
    pub fn settle(&self) {
        let running = || {
            let found = Command::new("pgrep").args(["-x", &PROGRAMS.join("|")]).output().unwrap();
            found.status.success()
        };
        while running() {
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends watching.
    pub fn unwatch(&self) {
        for program in PROGRAMS {
            let _ = fs::remove_file(format!("{IN_FRONT}/{program}"));
        }
        let _ = fs::remove_file(CALLS);
    }
}

impl Default for Lvm {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lvm {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// The call for a persistent image.
pub fn persistent(call: Call<'_>) -> Call<'_> {
    call.set_escaped("IMAGE/PERSISTENT", "1")
}

/// The volumes of a group, by name.
pub fn volumes(group: &str) -> Vec<Volume> {
    let fields = "lv_name,lv_attr,lv_size,pool_lv,origin,lv_tags";
    let arguments =
        ["--noheadings", "--separator", ":", "--units", "b", "--nosuffix", "-o", fields];
    let output = run("/usr/sbin/lvs", arguments.into_iter().chain([group]));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut volumes: Vec<Volume> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            Volume {
                name: fields[0].to_owned(),
                attributes: fields[1].to_owned(),
                size: fields[2].parse().unwrap(),
                pool: fields[3].to_owned(),
                origin: fields[4].to_owned(),
                tags: fields[5].to_owned(),
            }
        })
        .collect();
    volumes.sort_by(|one, other| one.name.cmp(&other.name));
    volumes
}

/// Whether an earlier test has left the group on the scratch disk, and nothing else.
fn is_usable(group: &str) -> bool {
    let volumes = run("pvs", ["--noheadings", "-o", "pv_name,vg_name"]).stdout;
    let volumes = String::from_utf8(volumes).unwrap();
    volumes.split_whitespace().eq([SCRATCH, group])
}

/// The table of the fragile disk. It begins behind the place where LVM would look for a label.
fn fragile(target: &str, options: &str) -> String {
    format!("0 {FRAGILE_SECTORS} {target} {SCRATCH} {FRAGILE_START}{options}")
}

/// A line for a shell that gives the fragile disk another table.
fn replace(table: &str) -> String {
    format!(
        "dmsetup reload fragile --table '{table}' && \
         dmsetup suspend --noflush --nolockfs fragile && dmsetup resume fragile"
    )
}

/// Removes all groups that an earlier test left, and the fragile disk; the scratch disk is empty then, the plain one
/// of no group.
fn clear() {
    let is_fragile = fs::exists(FRAGILE).unwrap();
    if is_fragile {
        run("sh", ["-c", &replace(&fragile("linear", ""))]);
    }
    let groups = run("vgs", ["--noheadings", "-o", "vg_name"]).stdout;
    for group in String::from_utf8(groups).unwrap().split_whitespace() {
        run("vgremove", ["-q", "-ff", "-y", group]);
    }
    if is_fragile {
        run("dmsetup", ["remove", "fragile"]);
    }
    run("blkdiscard", ["-f", SCRATCH]);
    run("wipefs", ["-a", "-q", PLAIN]);
    let _ = fs::remove_dir_all("/var/lock/one");
}
