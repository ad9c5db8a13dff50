//! Snapshots as a chain of overlays.

use super::{Base, Layout, Level, Link, Naming, Snapshots};
use crate::{Cloud, info, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A chain of overlays (TM_MAD `qcow2`, `shared`, `local`): file *n* is snapshot *n*, the file
/// with the highest number the live disk.
#[derive(Debug)]
pub struct Chain<'cloud> {
    layout: Layout,
    snapshots: Snapshots<'cloud>,
}

impl<'cloud> std::ops::Deref for Chain<'cloud> {
    type Target = Snapshots<'cloud>;
    fn deref(&self) -> &Self::Target {
        &self.snapshots
    }
}

impl<'cloud> Chain<'cloud> {
    /// An image with snapshots 0, 1 and 2, one upon the other, and the live disk 3.
    pub fn of_four(cloud: &'cloud Cloud, layout: Layout) -> Self {
        let mut chain = Self::on(cloud, layout, Level::PLAIN);
        for number in 1..4 {
            chain.overlay(number, number - 1, Level::PLAIN);
        }
        chain
    }

    /// An image whose snapshots are a tree: 2 upon 1 upon 0, then a revert to 0, 3 upon 0, and
    /// the live disk 4 upon 3.
    pub fn tree(cloud: &'cloud Cloud, layout: Layout) -> Self {
        Self::tree_of(cloud, layout, Level::PLAIN)
    }

    /// The same of other files.
    pub fn tree_of(cloud: &'cloud Cloud, layout: Layout, level: Level) -> Self {
        let mut chain = Self::on(cloud, layout, level);
        for (number, on) in [(1, 0), (2, 1), (3, 0), (4, 3)] {
            chain.overlay(number, on, level);
        }
        chain
    }

    /// An image without snapshots yet.
    pub fn on(cloud: &'cloud Cloud, layout: Layout, base: Level) -> Self {
        Self::below(cloud, layout, base, cloud.base_path())
    }

    /// The same in a datastore whose BASE_PATH has another text.
    pub fn below(cloud: &'cloud Cloud, layout: Layout, base: Level, base_path: String) -> Self {
        Self::made(cloud, layout, base_path, |file| {
            make(file, base);
            scribble(file, 0, base);
            if base.compressed {
                compress(file, base);
            }
        })
    }

    /// An image without snapshots yet, whose file the test makes itself.
    pub fn filled(cloud: &'cloud Cloud, layout: Layout, fill: impl FnOnce(&Path)) -> Self {
        Self::made(cloud, layout, cloud.base_path(), fill)
    }

    fn made(
        cloud: &'cloud Cloud,
        layout: Layout,
        base_path: String,
        fill: impl FnOnce(&Path),
    ) -> Self {
        let name = "0123456789abcdef0123456789abcdef";
        let snapshots = Snapshots::new(cloud, layout.tm_mad, "qcow2", base_path, name);
        let mut chain = Self { layout, snapshots };
        let (source, first) = (chain.source(), chain.file(0));
        match layout.base {
            Base::IsSource(link) => {
                let target = match link {
                    Link::Absolute => source.clone(),
                    Link::Relative => format!("../{name}"),
                };
                symlink(target, &first).unwrap();
                fill(Path::new(&source));
            }
            Base::IsSnapshot(_) => {
                fill(&first);
                chain.point_source_at(0);
            }
        }
        if layout.naming != Naming::Bare {
            symlink(".", chain.directory().join(format!("{name}.snap"))).unwrap();
        }
        chain.snapshots.refer(0, &first);
        chain
    }

    /// Adds file `number` upon file `on`, with data of its own over part of what lies below.
    pub fn overlay(&mut self, number: u32, on: u32, level: Level) {
        let backing = self.backing_name(on);
        self.overlay_upon(number, &backing, level);
        scribble(&self.file(number), number, level);
        self.snapshots.refer(number, &self.snapshots.file(number));
    }

    /// Adds file `number`, which the test makes itself.
    pub fn overlay_filled(&mut self, number: u32, make: impl FnOnce(&Path)) {
        let file = self.file(number);
        make(&file);
        self.point_source_at(number);
        self.snapshots.refer(number, &file);
    }

    /// Adds file `number` upon whatever `backing` names, which need not be there, and no data.
    pub fn overlay_upon(&mut self, number: u32, backing: &str, level: Level) {
        let file = self.file(number);
        run(
            "qemu-img",
            [
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-o",
                level.options,
                "-F",
                "qcow2",
                "-b",
                backing,
                file.to_str().unwrap(),
                &level.size.to_string(),
            ],
        );
        self.point_source_at(number);
    }

    /// The name by which an overlay of this chain names file `number`.
    pub fn backing_name(&self, number: u32) -> String {
        self.backing_name_as(self.layout.naming, number)
    }

    /// The name of file `number` in a given style.
    pub fn backing_name_as(&self, naming: Naming, number: u32) -> String {
        match naming {
            Naming::Image if number == 0 => self.source(),
            Naming::Absolute | Naming::Image => format!("{}.snap/{number}", self.source()),
            Naming::Relative => format!("{}.snap/{number}", self.name),
            Naming::Bare => number.to_string(),
        }
    }

    /// The backing name that a file really has.
    pub fn backing_of(&self, number: u32) -> String {
        // Without --backing-chain, qemu-img reads just this file.
        info(self.file(number), "qcow2")["backing-filename"]
            .as_str()
            .expect("the file has a backing name")
            .to_owned()
    }

    /// Where `S` is a link, it points to the active file.
    fn point_source_at(&self, number: u32) {
        let Base::IsSnapshot(link) = self.layout.base else {
            return;
        };
        let source = self.source();
        let _ = fs::remove_file(&source);
        let target = match link {
            Link::Absolute => format!("{source}.snap/{number}"),
            Link::Relative => format!("{}.snap/{number}", self.name),
        };
        symlink(target, source).unwrap();
    }

    /// Removes a file and what is known of it, as a deletion in the past.
    pub fn forget(&mut self, number: u32) {
        fs::remove_file(self.file(number)).unwrap();
        self.snapshots.references.remove(&number);
    }
}

fn make(file: &Path, level: Level) {
    let (file, size) = (file.to_str().unwrap(), level.size.to_string());
    run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", level.options, file, &size]);
}

/// Writes what only file `number` holds: data, explicit zeros and the last bytes of the disk.
fn scribble(file: &Path, number: u32, level: Level) {
    let byte = number + 1;
    let step = level.size / 8 / 512 * 512;
    let number = u64::from(number);
    let mut commands = vec![format!("write -q -P {byte} {} {step}", (number % 7) * step)];
    commands.push(format!("write -q -P {} {} 512", byte + 100, number * 4096));
    commands.push(format!("write -q -z {} {step}", (number + 3) % 7 * step));
    let last = (level.size - 1) / 512 * 512;
    commands.push(format!("write -q -P {} {last} 512", byte + 50));
    let mut arguments = vec!["-f".to_owned(), "qcow2".to_owned()];
    for command in commands {
        arguments.extend(["-c".to_owned(), command]);
    }
    arguments.push(file.to_str().unwrap().to_owned());
    run("qemu-io", arguments);
}

fn compress(file: &Path, level: Level) {
    let copy = file.with_extension("copy");
    let (from, to) = (file.to_str().unwrap(), copy.to_str().unwrap());
    run("qemu-img", ["convert", "-c", "-f", "qcow2", "-O", "qcow2", "-o", level.options, from, to]);
    fs::rename(copy, file).unwrap();
}
