//! Fifteen drivers at once, as oned runs them.

use ferrostore_tests::layouts::{Copies, Snapshots};
use ferrostore_tests::{Cloud, Contents, Disk, KIB, MIB, pattern, run};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const DRIVERS: usize = 15;
const CALLS: usize = 10_000;
const CONTENTS: u64 = 6;

/// What an image must hold: the number of its content, and those of its snapshots.
#[derive(Debug)]
struct Image {
    source: String,
    format: &'static str,
    content: u64,
    snapshots: Vec<(u32, u64)>,
    chain: bool,
}

struct World {
    cloud: Cloud,
    /// The contents as files that users bring, by format.
    users: HashMap<(&'static str, u64), PathBuf>,
    /// Images on which no thread works at the moment.
    images: Mutex<Vec<Image>>,
    /// Which content files have that hold these bytes: so that each is read by qemu-img but once.
    known: Mutex<HashMap<u64, u64>>,
    names: Mutex<HashSet<String>>,
    done: Mutex<HashMap<&'static str, usize>>,
    /// For names of files that no other thread uses.
    scratch: AtomicUsize,
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

fn bytes_of(content: u64) -> Vec<u8> {
    let mut bytes = pattern(content + 700, 96 * KIB as usize);
    bytes.resize(MIB as usize, 0);
    bytes
}

fn hash(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            .hash(&mut hasher);
    }
    hasher.finish()
}

impl World {
    fn new() -> Self {
        let cloud = Cloud::on_quick(Disk::Ext4(800 * MIB));
        let mut users = HashMap::new();
        for content in 0..CONTENTS {
            let raw = cloud.file(&format!("{content}.raw"), bytes_of(content));
            users.insert(("qcow2", content), cloud.qcow2(&raw, &format!("{content}.qcow2"), ""));
            users.insert(("gz", content), cloud.compressed(&raw, "gzip"));
            users.insert(("raw", content), raw);
        }
        Self {
            cloud,
            users,
            images: Mutex::default(),
            known: Mutex::default(),
            names: Mutex::default(),
            done: Mutex::default(),
            scratch: AtomicUsize::new(0),
        }
    }

    /// The content of the disk whose top is `file` and which is made of `files`.
    fn content(&self, file: &Path, format: &str, files: &[PathBuf]) -> u64 {
        let hash = hash(files);
        if let Some(&content) = self.known.lock().unwrap().get(&hash) {
            return content;
        }
        let number = self.scratch.fetch_add(1, Ordering::Relaxed);
        let raw = self.cloud.outside().join(number.to_string());
        let arguments = ["convert", "-f", format, "-O", "raw"];
        let files = [file.to_str().unwrap(), raw.to_str().unwrap()];
        run("qemu-img", arguments.into_iter().chain(files));
        let bytes = fs::read(&raw).unwrap();
        fs::remove_file(&raw).unwrap();
        let content = (0..CONTENTS)
            .find(|content| bytes_of(*content) == bytes)
            .unwrap_or_else(|| panic!("{} holds none of the contents", file.display()));
        self.known.lock().unwrap().insert(hash, content);
        content
    }

    fn check(&self, image: &Image) {
        let source = PathBuf::from(&image.source);
        let file = |id: &u32| PathBuf::from(format!("{}.snap/{id}", image.source));
        let of = |top: &Path, files: &[PathBuf]| self.content(top, image.format, files);
        if image.chain {
            let mut files: Vec<PathBuf> = image.snapshots.iter().map(|(id, _)| file(id)).collect();
            let top = source.canonicalize().unwrap();
            files.push(top.clone());
            assert_eq!(of(&top, &files), image.content, "{image:?}");
        } else {
            assert_eq!(of(&source, std::slice::from_ref(&source)), image.content, "{image:?}");
            for (id, content) in &image.snapshots {
                assert_eq!(
                    of(&file(id), std::slice::from_ref(&file(id))),
                    *content,
                    "{image:?}: snapshot {id}"
                );
            }
        }
    }

    fn call(&self, action: &'static str, call: &ferrostore_tests::Call) -> String {
        let output = call.output();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{action}: {}: {said}", output.status);
        assert!(!said.contains("WARN") && !said.contains("ERROR"), "{action}: {said}");
        *self.done.lock().unwrap().entry(action).or_default() += 1;
        String::from_utf8(output.stdout).unwrap()
    }

    /// Takes note of a new image.
    fn born(&self, reply: &str, format: &'static str, content: u64) {
        let source = match reply.trim_end().rsplit_once(' ') {
            Some((source, replied)) => {
                assert_eq!(replied, format);
                source
            }
            None => reply.trim_end(),
        };
        assert!(self.names.lock().unwrap().insert(source.to_owned()), "{source} twice");
        let image = Image {
            source: source.to_owned(),
            format,
            content,
            snapshots: Vec::new(),
            chain: false,
        };
        self.check(&image);
        self.images.lock().unwrap().push(image);
    }

    fn any_image(&self, dice: &mut Dice, wanted: impl Fn(&Image) -> bool) -> Option<Image> {
        let mut images = self.images.lock().unwrap();
        let found: Vec<usize> = (0..images.len()).filter(|&index| wanted(&images[index])).collect();
        (!found.is_empty()).then(|| images.swap_remove(found[dice.below(found.len())]))
    }

    /// What the transfer drivers do: gives an image snapshots.
    fn snapshot(&self, image: &mut Image, dice: &mut Dice) {
        let directory = format!("{}.snap", image.source);
        fs::create_dir(&directory).unwrap();
        if image.format == "qcow2" {
            // As under TM_MAD local: the base moves, overlays lie beside it.
            fs::rename(&image.source, format!("{directory}/0")).unwrap();
            for id in 1..3 {
                let (below, file) = ((id - 1).to_string(), format!("{directory}/{id}"));
                let options = ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &below];
                run("qemu-img", options.into_iter().chain([file.as_str(), "1M"]));
            }
            let name = Path::new(&image.source).file_name().unwrap().to_str().unwrap();
            symlink(format!("{name}.snap/2"), &image.source).unwrap();
            image.snapshots = vec![(0, image.content), (1, image.content)];
            image.chain = true;
        } else {
            for id in 0..3 {
                let content = dice.below(CONTENTS as usize) as u64;
                fs::copy(&self.users[&("raw", content)], format!("{directory}/{id}")).unwrap();
                image.snapshots.push((id, content));
            }
        }
    }

    /// One call of a random action on a random image that no other thread uses.
    fn turn(&self, dice: &mut Dice) {
        let cloud = &self.cloud;
        let content = dice.below(CONTENTS as usize) as u64;
        let driver = ["raw", "qcow2"][dice.below(2)];
        let few = self.images.lock().unwrap().len() < 60;
        match dice.below(20) {
            0..=2 if few => {
                let from = ["raw", "qcow2", "gz"][dice.below(3)];
                let call = cloud.cp(&self.users[&(from, content)]).driver(driver);
                self.born(&self.call("cp", &call), driver, content);
            }
            3 if few => {
                let reply = self.call("mkfs", &cloud.mkfs(driver, "1"));
                // An empty one is none of the contents; it only has to be there once.
                let source = reply.trim_end().to_owned();
                assert!(self.names.lock().unwrap().insert(source.clone()), "{source} twice");
                self.call("rm", &cloud.rm(&source));
                assert!(!Path::new(&source).exists());
            }
            4 | 5 if few => {
                if let Some(image) = self.any_image(dice, |_| true) {
                    let call = cloud.clone_of(&image.source, image.format).driver(driver);
                    let reply = self.call("clone", &call);
                    self.born(&reply, driver, image.content);
                    self.images.lock().unwrap().push(image);
                }
            }
            6 => {
                let from = ["raw", "qcow2", "gz"][dice.below(3)];
                let reply = self.call("stat", &cloud.stat(&self.users[&(from, content)]));
                assert_eq!(reply, "1\n");
            }
            7 => {
                let reply = self.call("monitor", &cloud.monitor());
                assert_eq!(reply.lines().count(), 3);
            }
            8 => {
                if let Some(image) = self.any_image(dice, |image| !image.chain) {
                    let reply = self.call("export", &cloud.export(&image.source, image.format));
                    let digest = ferrostore_tests::digest("md5sum", &image.source);
                    assert!(reply.contains(&digest), "{reply}");
                    self.images.lock().unwrap().push(image);
                }
            }
            9 | 10 => {
                if let Some(image) = self.any_image(dice, |_| true) {
                    self.call("rm", &cloud.rm(&image.source));
                    for part in ["", ".snap"] {
                        let path = format!("{}{part}", image.source);
                        assert!(fs::symlink_metadata(&path).is_err(), "{path}");
                    }
                }
            }
            roll => {
                let Some(mut image) = self.any_image(dice, |_| true) else { return };
                if image.snapshots.is_empty() {
                    self.snapshot(&mut image, dice);
                }
                self.snapshot_turn(roll, &mut image, dice);
                self.check(&image);
                self.images.lock().unwrap().push(image);
            }
        }
    }

    fn snapshot_turn(&self, roll: usize, image: &mut Image, dice: &mut Dice) {
        let call = |action, id| self.cloud.snap(action, &image.source, image.format, id);
        let at = dice.below(image.snapshots.len());
        let (id, content) = image.snapshots[at];
        match roll {
            // In a chain, each lies upon the one before.
            11..=13 if !image.chain && image.snapshots.len() > 1 => {
                self.call("snap_delete", &call("snap_delete", id));
                image.snapshots.remove(at);
            }
            11..=13 if image.chain && image.snapshots.len() == 2 => {
                self.call("snap_revert", &call("snap_revert", 0));
                self.call("snap_delete", &call("snap_delete", 1));
                image.snapshots.remove(1);
            }
            11..=16 => {
                self.call("snap_revert", &call("snap_revert", id));
                image.content = content;
            }
            _ => {
                self.call("snap_flatten", &call("snap_flatten", id));
                image.content = content;
                image.snapshots.clear();
                image.chain = false;
            }
        }
    }

    fn total(&self) -> usize {
        self.done.lock().unwrap().values().sum()
    }
}

#[test]
fn ten_thousand_calls_of_all_actions_on_one_datastore() {
    let world = World::new();
    thread::scope(|scope| {
        for number in 0..DRIVERS {
            let world = &world;
            scope.spawn(move || {
                let mut dice = Dice(number as u64 + 1);
                while world.total() < CALLS {
                    world.turn(&mut dice);
                }
            });
        }
    });
    let images = world.images.lock().unwrap();
    let mut expected: Vec<String> = Vec::new();
    for image in images.iter() {
        world.check(image);
        let name = image.source.rsplit('/').next().unwrap();
        expected.push(name.to_owned());
        if !image.snapshots.is_empty() {
            expected.push(format!("{name}.snap"));
        }
    }
    expected.sort();
    let there: Vec<String> =
        Contents::of(&world.cloud.datastore()).names().map(str::to_owned).collect();
    assert_eq!(there, expected, "every image is there, and nothing else");
    assert!(!world.cloud.work_directory().exists());
    println!("{} calls by {DRIVERS} drivers: {:?}", world.total(), world.done.lock().unwrap());
    assert_eq!(world.done.lock().unwrap().len(), 10, "all ten actions");
}

/// What is done to one image by fifteen drivers at the same moment.
const CONFLICTS: [(&str, u32); DRIVERS] = [
    ("snap_revert", 0),
    ("snap_revert", 1),
    ("snap_delete", 2),
    ("snap_flatten", 1),
    ("clone", 0),
    ("export", 0),
    ("snap_revert", 2),
    ("snap_delete", 0),
    ("clone", 0),
    ("snap_flatten", 0),
    ("export", 0),
    ("snap_delete", 1),
    ("snap_revert", 1),
    ("clone", 0),
    ("rm", 0),
];

/// Whether a file holds one of the image's states, whole.
fn is_whole(snapshots: &Snapshots, file: &Path) -> bool {
    let bytes = fs::read(file).unwrap();
    [0, 1, 2, Copies::LIVE].iter().any(|id| fs::read(snapshots.reference(*id)).unwrap() == bytes)
}

#[test]
fn one_image_hammered_by_all_drivers_is_always_whole() {
    let cloud = Cloud::on_quick(Disk::Ext4(400 * MIB));
    let copies = Copies::of_three_by(&cloud, "raw", 128 * KIB);
    let source = PathBuf::from(copies.source());
    let start = Contents::of(&cloud.datastore());
    let (mut calls, mut refused) = (0, 0);
    for round in 0..40 {
        start.restore(&cloud.datastore());
        // Every other round without the one that leaves nothing.
        let drivers = DRIVERS - round % 2;
        let outputs: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = CONFLICTS[..drivers]
                .iter()
                .map(|(action, target)| {
                    let call = match *action {
                        "clone" => cloud.clone_of(&source, "raw"),
                        "export" => cloud.export(&source, "raw"),
                        "rm" => cloud.rm(&source),
                        _ => copies.call(action, *target),
                    };
                    scope.spawn(move || (*action, call.output()))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (action, output) in outputs {
            calls += 1;
            let said = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                if action == "clone" {
                    let reply = String::from_utf8_lossy(&output.stdout);
                    let image = PathBuf::from(reply.split(' ').next().unwrap());
                    assert!(is_whole(&copies, &image), "a clone of a mixture");
                    fs::remove_file(image).unwrap();
                }
            } else {
                refused += 1;
                // Another one was faster, and said why in its own words.
                let reasons =
                    ["does not exist", "No such file", "can't be used", "can't be opened"];
                assert!(reasons.iter().any(|reason| said.contains(reason)), "{action}: {said}");
            }
        }
        let removed = drivers == DRIVERS;
        assert_eq!(!source.exists(), removed, "only rm removes the image");
        if !removed {
            assert!(is_whole(&copies, &source), "round {round}: the image is a mixture");
        }
        for id in 0..3 {
            let file = copies.file(id);
            assert!(!file.exists() || is_whole(&copies, &file), "round {round}: snapshot {id}");
        }
        assert!(!removed || !copies.directory().exists(), "its snapshots go with an image");
        assert!(!cloud.work_directory().exists());
    }
    println!("{calls} conflicting calls by {DRIVERS} drivers, {refused} came too late");
}
