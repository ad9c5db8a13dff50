//! Two thousand images with something wrong in them, against qemu-img: what both read is the same, ours takes
//! nothing that qemu-img refuses, and whatever it is, ours ends in order, in little memory and time.

mod mutate;

use ferrostore_tests::{Call, Cloud, MIB, Rule, info};
use mutate::{Model, Numbers, foreign_models, mutate, overlay, qcow2_models};
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

/// 64 MiB of memory that can be written to, and 10 s of processor time.
const LIMITS: [&str; 4] = ["prlimit", "--data=67108864", "--cpu=10", "--"];
/// Larger disks are measured and not converted, bytes.
const CONVERTED: u64 = 64 * MIB;

/// What the cases came to.
#[derive(Debug, Default)]
struct Counts {
    /// Read by both, to the same bytes.
    same: u32,
    /// Measured by both, to the same size.
    measured: u32,
    /// Refused by both.
    refused: u32,
    /// Refused by ours alone.
    stricter: u32,
    /// Anything else.
    wrong: Vec<String>,
}

/// How one case ended.
enum End {
    Same,
    Measured,
    Refused,
    Stricter,
    Wrong(String),
}

/// Tries the cases on two threads, each in a cloud of its own, and prints what they came to.
#[track_caller]
fn try_all(what: &str, cases: u64, case: impl Fn(&Cloud, u64) -> (String, End) + Sync) -> Counts {
    let counts = Mutex::new(Counts::default());
    thread::scope(|scope| {
        for first in 0..2 {
            let (counts, case) = (&counts, &case);
            scope.spawn(move || {
                let cloud = Cloud::new();
                for number in (first..cases).step_by(2) {
                    let ended = catch_unwind(AssertUnwindSafe(|| case(&cloud, number)));
                    let (changes, end) = ended.unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        (String::new(), End::Wrong(text))
                    });
                    let mut counts = counts.lock().unwrap();
                    match end {
                        End::Same => counts.same += 1,
                        End::Measured => counts.measured += 1,
                        End::Refused => counts.refused += 1,
                        End::Stricter => counts.stricter += 1,
                        End::Wrong(why) => {
                            counts.wrong.push(format!("case {number} ({changes}): {why}"));
                        }
                    }
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!(
        "{what}: {cases} mutated images: {} read alike, {} measured alike, {} refused by both, {} by ours alone, {} wrong",
        counts.same,
        counts.measured,
        counts.refused,
        counts.stricter,
        counts.wrong.len()
    );
    assert!(counts.wrong.is_empty(), "{}", counts.wrong.join("\n"));
    counts
}

/// The disk in `image` as qemu-img reads it, in a raw file; else what it says.
fn by_qemu(cloud: &Cloud, image: &Path, format: &str) -> Result<PathBuf, String> {
    let raw = cloud.outside().join("by-qemu.raw");
    let _ = fs::remove_file(&raw);
    let output = Command::new("timeout")
        .args(["60", "qemu-img", "convert", "-f", format, "-O", "raw"])
        .args([image, &raw])
        .output()
        .expect("qemu-img is installed");
    if output.status.success() {
        return Ok(raw);
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Virtual size in bytes as qemu-img tells it.
fn size_by_qemu(image: &Path, format: &str) -> Option<u64> {
    let known = Command::new("qemu-img")
        .args(["info", "-f", format])
        .arg(image)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("qemu-img is installed");
    known.success().then(|| info(image, format)["virtual-size"].as_u64().expect("a size"))
}

/// Makes the call under the limits; the raw image, or `None` where it is refused in order.
fn by_ours(call: Call) -> Option<PathBuf> {
    let outcome = call.under(LIMITS).run();
    if outcome.status.code() == Some(0) {
        return Some(outcome.succeeds().image("raw"));
    }
    outcome.refused_by_any(Rule::OF_IMAGES);
    None
}

fn compare(ours: Option<PathBuf>, qemu: Result<PathBuf, String>) -> End {
    let end = match (&ours, &qemu) {
        (Some(ours), Ok(qemu)) => {
            // A difference in length is one of zeros to whole sectors.
            let (mut one, mut two) = (fs::read(ours).unwrap(), fs::read(qemu).unwrap());
            let length = one.len().max(two.len());
            one.resize(length, 0);
            two.resize(length, 0);
            match one.iter().zip(&two).position(|(one, two)| one != two) {
                None => End::Same,
                Some(at) => End::Wrong(format!("the disks differ from byte {at} on")),
            }
        }
        (Some(_), Err(why)) => End::Wrong(format!("taken, though qemu-img refuses it: {why}")),
        (None, Ok(_)) => End::Stricter,
        (None, Err(_)) => End::Refused,
    };
    for file in [ours, qemu.ok()].into_iter().flatten() {
        fs::remove_file(file).unwrap();
    }
    end
}

/// Measures a disk that is too large to convert.
fn measured(cloud: &Cloud, image: &Path, format: &str) -> End {
    let outcome = cloud.stat(image).under(LIMITS).run();
    let qemu = size_by_qemu(image, format);
    if outcome.status.code() != Some(0) {
        outcome.refused_by_any(Rule::OF_IMAGES);
        return if qemu.is_some() { End::Stricter } else { End::Refused };
    }
    let reply = outcome.succeeds().line().to_owned();
    match qemu {
        Some(size) if reply == size.div_ceil(MIB).to_string() => End::Measured,
        other => End::Wrong(format!("measured as {reply} MiB, by qemu-img as {other:?} bytes")),
    }
}

fn size_of(bytes: &[u8]) -> u64 {
    bytes[24..32].try_into().map(u64::from_be_bytes).unwrap()
}

/// Image `number` made out of one of the models, and what was changed in it.
fn mutated(models: &[Model], number: u64) -> (&Model, Vec<u8>, String) {
    let mut numbers = Numbers::of(number);
    let model = &models[number as usize % models.len()];
    let mut bytes = model.bytes.clone();
    let changes = mutate(model, &mut bytes, &mut numbers);
    (model, bytes, format!("{}: {changes}", model.name))
}

#[test]
fn qcow2_images() {
    let maker = Cloud::new();
    let models = qcow2_models(&maker);
    let counts = try_all("qcow2", 1400, |cloud, number| {
        let (model, bytes, changes) = mutated(&models, number);
        let image = cloud.file("disk.qcow2", &bytes);
        if size_of(&bytes) > CONVERTED {
            return (changes, measured(cloud, &image, model.format));
        }
        let ours = by_ours(cloud.cp(&image).driver("raw"));
        (changes, compare(ours, by_qemu(cloud, &image, model.format)))
    });
    assert!(counts.same >= 200 && counts.refused >= 200, "the cases are of both sorts: {counts:?}");
}

/// What is kept as it is must open later, with all its tables.
#[test]
fn qcow2_images_that_are_kept() {
    let maker = Cloud::new();
    let models = qcow2_models(&maker);
    try_all("kept qcow2", 200, |cloud, number| {
        let (_, bytes, changes) = mutated(&models, number + 10_000);
        let image = cloud.file("disk.qcow2", &bytes);
        let outcome = cloud.cp(&image).under(LIMITS).run();
        let qemu = size_by_qemu(&image, "qcow2");
        if outcome.status.code() != Some(0) {
            outcome.refused_by_any(Rule::OF_IMAGES);
            let end = if qemu.is_some() { End::Stricter } else { End::Refused };
            return (changes, end);
        }
        let kept = outcome.succeeds().image("qcow2");
        let end = match size_by_qemu(&kept, "qcow2") {
            Some(_) => End::Measured,
            None => End::Wrong("kept, though qemu-img can't open it".to_owned()),
        };
        fs::remove_file(kept).unwrap();
        (changes, end)
    });
}

/// A base and an overlay, of which one or both were changed.
#[test]
fn chains() {
    let maker = Cloud::new();
    let models = qcow2_models(&maker);
    let counts = try_all("chains", 300, |cloud, number| {
        let mut numbers = Numbers::of(number + 20_000);
        let source = cloud.source(1);
        let base = &models[number as usize % models.len()];
        let mut lower = base.bytes.clone();
        let options = numbers.one_of(&["", "cluster_size=512", "cluster_size=4k", "compat=0.10"]);
        let snapshots = PathBuf::from(format!("{source}.snap"));
        let _ = fs::remove_dir_all(&snapshots);
        fs::create_dir(&snapshots).unwrap();
        fs::write(&source, &lower).unwrap();
        symlink(&source, snapshots.join("0")).unwrap();
        let backing = format!("{source}.snap/0");
        let upper = overlay(cloud, "overlay.qcow2", options, &backing);
        let upper = Model { name: "overlay", format: "qcow2", bytes: upper };
        let mut top = upper.bytes.clone();
        let mut changes = format!("{} below {options:?}: ", base.name);
        if number % 3 != 0 {
            changes += "overlay: ";
            changes += &mutate(&upper, &mut top, &mut numbers);
        }
        if number % 3 != 1 {
            changes += "base: ";
            changes += &mutate(base, &mut lower, &mut numbers);
        }
        fs::write(&source, &lower).unwrap();
        fs::write(snapshots.join("1"), &top).unwrap();
        let end = if size_of(&top) > CONVERTED {
            End::Measured
        } else {
            let ours = by_ours(cloud.clone_of(&source, "qcow2").driver("raw"));
            compare(ours, by_qemu(cloud, &snapshots.join("1"), "qcow2"))
        };
        (changes, end)
    });
    assert!(counts.same >= 40 && counts.refused >= 40, "the cases are of both sorts: {counts:?}");
}

/// What qemu-img converts is judged before; where it is taken, all of it must be right.
#[test]
fn images_of_other_formats() {
    let maker = Cloud::new();
    let models = foreign_models(&maker);
    let counts = try_all("vmdk, vdi, vhdx, vhd", 200, |cloud, number| {
        let (model, bytes, changes) = mutated(&models, number + 30_000);
        let image = cloud.file("disk.image", &bytes);
        match size_by_qemu(&image, model.format) {
            Some(size) if size > CONVERTED => {
                return (changes, measured(cloud, &image, model.format));
            }
            _ => {}
        }
        let outcome = cloud.cp(&image).driver("raw").run();
        let ours = if outcome.status.code() == Some(0) {
            Some(outcome.succeeds().image("raw"))
        } else {
            outcome.refused_by_any(Rule::OF_IMAGES);
            None
        };
        (changes, compare(ours, by_qemu(cloud, &image, model.format)))
    });
    assert!(counts.same >= 30, "some images survive: {counts:?}");
}
