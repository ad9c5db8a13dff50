//! `rm` into the trash, restoring and purging, with every fault at every system call that changes something: the image is
//! whole in one of the two places, or gone where that was asked for.

use ferrostore_tests::{Call, Cloud, Disk, FaultMatrix, Holds, KIB, MIB, TRASH, pattern};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const EXT4: (&str, Disk) = ("ext4", Disk::Ext4(64 * MIB));
const XFS: (&str, Disk) = ("XFS", Disk::Xfs(320 * MIB));

/// Files and links by their path.
type Parts = BTreeMap<String, Vec<u8>>;

fn collect(directory: &Path, prefix: &str, parts: &mut Parts) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            parts.insert(name, target.into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            collect(&path, &format!("{name}/"), parts);
        } else {
            parts.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// What a directory holds under numbered names.
fn numbered(directory: &Path) -> Parts {
    let mut parts = Parts::new();
    collect(directory, "", &mut parts);
    let name = |path: &str| path.split_once('.').map(|(_, name)| name.to_owned());
    parts.into_iter().filter_map(|(path, bytes)| Some((name(&path)?, bytes))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Datastore,
    Trash,
    Nowhere,
    /// In several places, which together have all of it.
    Between,
    Broken,
}

/// An image with copies as snapshots and a digest.
struct Image<'a> {
    cloud: &'a Cloud,
    source: String,
    whole: Parts,
}

impl<'a> Image<'a> {
    fn in_datastore(cloud: &'a Cloud) -> Self {
        let source = cloud.source(1);
        fs::write(&source, pattern(1, 64 * KIB as usize)).unwrap();
        let snapshots = format!("{source}.snap");
        fs::create_dir(&snapshots).unwrap();
        for number in 0..3 {
            fs::write(format!("{snapshots}/{number}"), pattern(number, 20_000)).unwrap();
        }
        symlink(".", format!("{snapshots}/link")).unwrap();
        fs::write(format!("{source}.md5sum"), "digest").unwrap();
        let mut whole = Parts::new();
        collect(&cloud.datastore(), "", &mut whole);
        Self { cloud, source, whole }
    }

    fn in_trash(cloud: &'a Cloud) -> Self {
        let image = Self::in_datastore(cloud);
        image.rm().run().succeeds().silently();
        assert_eq!(image.place(), Place::Trash);
        image
    }

    fn rm(&self) -> Call<'a> {
        self.cloud.rm(&self.source).keeping("1w")
    }

    fn place(&self) -> Place {
        let (mut here, mut trash, mut work) = (Parts::new(), Parts::new(), Parts::new());
        collect(&self.cloud.datastore(), "", &mut here);
        here.retain(|path, _| !path.starts_with('.'));
        for entry in fs::read_dir(self.cloud.datastore().join(TRASH)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with(|c: char| c.is_ascii_digit()) {
                trash.extend(numbered(&path));
            }
        }
        for entry in fs::read_dir(self.cloud.work_directory()).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("undo.") {
                work.extend(numbered(&path));
            }
        }
        match (here.is_empty(), trash.is_empty(), work.is_empty()) {
            (true, true, true) => Place::Nowhere,
            (false, true, true) if here == self.whole => Place::Datastore,
            (true, false, true) if trash == self.whole => Place::Trash,
            _ => {
                here.extend(trash);
                here.extend(work);
                if here == self.whole { Place::Between } else { Place::Broken }
            }
        }
    }

    fn cut_power(&self, what: &str, call: Call, before: Place, after: Place, once: bool) {
        self.with_matrix(what, call, (before, after), once, |matrix| {
            matrix.cut_power();
        });
    }

    fn inject_all(&self, what: &str, call: Call, before: Place, after: Place, once: bool) {
        self.with_matrix(what, call, (before, after), once, |matrix| {
            matrix.inject_all();
        });
    }

    fn with_matrix(
        &self,
        what: &str,
        call: Call,
        (before, after): (Place, Place),
        once: bool,
        run: fn(&FaultMatrix),
    ) {
        let look = || match self.place() {
            place if place == before => Holds::Before,
            place if place == after => Holds::After,
            Place::Between => Holds::Underway,
            _ => Holds::Neither,
        };
        let name = what.to_owned();
        run(&FaultMatrix { name, cloud: self.cloud, call, look: &look, creates: false, once });
    }
}

fn delete((on, disk): (&str, Disk)) {
    let cloud = Cloud::on_quick(disk);
    let image = Image::in_datastore(&cloud);
    let name = format!("rm into the trash, {on}");
    image.inject_all(&name, image.rm(), Place::Datastore, Place::Trash, false);
}

fn restore((on, disk): (&str, Disk)) {
    let cloud = Cloud::on_quick(disk);
    let image = Image::in_trash(&cloud);
    let call = cloud.trash_call("restore", ["7"]);
    image.inject_all(&format!("restore, {on}"), call, Place::Trash, Place::Datastore, true);
}

fn purge((on, disk): (&str, Disk)) {
    let cloud = Cloud::on_quick(disk);
    let image = Image::in_trash(&cloud);
    let call = cloud.trash_call("purge", ["--yes", "7"]);
    image.inject_all(&format!("purge, {on}"), call, Place::Trash, Place::Nowhere, true);
}

#[test]
fn an_image_that_is_deleted_on_ext4() {
    delete(EXT4);
}

#[test]
fn an_image_that_is_deleted_on_xfs() {
    delete(XFS);
}

#[test]
fn an_image_that_is_restored_on_ext4() {
    restore(EXT4);
}

#[test]
fn an_image_that_is_restored_on_xfs() {
    restore(XFS);
}

#[test]
fn an_image_that_is_purged_on_ext4() {
    purge(EXT4);
}

#[test]
fn an_image_that_is_purged_on_xfs() {
    purge(XFS);
}

#[test]
fn the_power_goes_while_an_image_is_deleted_or_restored() {
    for (on, disk) in [EXT4, XFS] {
        let cloud = Cloud::on_quick(disk);
        let image = Image::in_datastore(&cloud);
        let name = format!("rm into the trash, {on}");
        image.cut_power(&name, image.rm(), Place::Datastore, Place::Trash, false);
        image.rm().run().succeeds().silently();
        let call = cloud.trash_call("restore", ["7"]);
        image.cut_power(&format!("restore, {on}"), call, Place::Trash, Place::Datastore, true);
    }
}

/// What is past its time goes with any call, and nothing of it stays.
#[test]
fn an_image_whose_time_is_over() {
    let cloud = Cloud::on_quick(EXT4.1);
    let image = Image::in_datastore(&cloud);
    image.rm().keeping("1h").run().succeeds().silently();
    cloud.pass_time(std::time::Duration::from_secs(3601));
    // A fault leaves it to the next call, and fails nothing.
    let points = ferrostore_tests::faults::points(&cloud, &cloud.monitor()).0;
    assert_eq!(image.place(), Place::Nowhere);
    assert!(points.len() > 5, "{points:?}");
}
