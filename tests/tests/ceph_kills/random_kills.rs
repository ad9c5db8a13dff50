//! Drivers and programs of Ceph that are killed at random moments: no image is lost, and none is mixed.

use ferrostore_tests::{Call, Ceph, MIB, pattern};
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

/// So many kills, or as many times more as `FERROSTORE_CASES` says.
const KILLS: usize = 6;

/// Image 5 with snapshots 0 and 1 on a carrier and 2 on itself; each begins with "s" and its number.
fn prepare(ceph: &Ceph) {
    for id in [5, 6] {
        ceph.on_image("rm", id).run().succeeds();
    }
    ceph.image("one-5", "s0");
    ceph.take_snapshot("one-5", "0");
    ceph.write("one-5", "s1");
    ceph.take_snapshot("one-5", "1");
    ceph.snap("snap_revert", 5, 0).run().succeeds();
    ceph.write("one-5", "s2");
    ceph.take_snapshot("one-5", "2");
    ceph.write("one-5", "head");
}

const ACTIONS: [(&str, u32); 8] = [
    ("cp", 0),
    ("snap_revert", 1),
    ("snap_flatten", 1),
    ("snap_delete", 0),
    ("clone", 0),
    ("snap_delete", 2),
    ("rm", 0),
    ("mkfs", 0),
];

fn call<'c>(ceph: &'c Ceph, (action, target): (&str, u32), disk: &std::path::Path) -> Call<'c> {
    const KNOWN: &str = "<ALLOW_ORPHANS>NO</ALLOW_ORPHANS><SNAPSHOT><ID>0</ID></SNAPSHOT>\
                         <SNAPSHOT><ID>1</ID></SNAPSHOT><SNAPSHOT><ID>2</ID></SNAPSHOT>";
    match action {
        "cp" => ceph.cp(6, disk),
        "clone" => ceph.clone_of(6, &ceph.spec("one-5")),
        "mkfs" => ceph.mkfs(6, "raw", 4),
        "rm" => ceph.on_image("rm", 5),
        _ => ceph.snap(action, 5, target).set_xml("IMAGE/SNAPSHOTS", KNOWN),
    }
}

/// The name of each image and snapshot, and the digest of its first bytes.
type Contents = Vec<(String, String)>;

/// What each image and each snapshot of the pool begins with.
fn contents(ceph: &Ceph) -> Contents {
    let mut all = Vec::new();
    for line in ceph.layout() {
        let (name, rest) = line.split_once(" [").unwrap();
        all.push((name.to_owned(), ceph.head(name)));
        let snapshots = rest.split(']').next().unwrap().split_whitespace();
        for snapshot in snapshots.map(|snapshot| snapshot.trim_end_matches('*')) {
            all.push((format!("@{snapshot}"), ceph.head(&format!("{name}@{snapshot}"))));
        }
    }
    all
}

/// Numbers without a pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Kills the driver of a call after so long, or the programs that it has started, or both.
fn kill_after(ceph: &Ceph, call: &Call, delay: Duration, driver: bool, programs: bool) {
    let (mut child, input) = call.start();
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), &input.unwrap());
    thread::sleep(delay);
    if driver {
        let _ = child.kill();
    }
    if programs {
        ceph.kill_programs();
    }
    let _ = child.wait_with_output();
}

#[test]
fn no_image_is_lost_or_mixed() {
    let ceph = Ceph::new();
    let bytes = pattern(1, 6 * MIB as usize);
    let disk = ceph.cloud.file("disk.img", &bytes);
    let factor: usize =
        std::env::var("FERROSTORE_CASES").map_or(1, |text| text.parse().expect("a number"));
    let mut known: HashMap<(&str, u32), (Duration, Contents)> = HashMap::new();
    let mut dice = Dice(20);
    for round in 0..KILLS * factor {
        let action = ACTIONS[round % ACTIONS.len()];
        let (time, after) = known.entry(action).or_insert_with(|| {
            prepare(&ceph);
            let start = Instant::now();
            call(&ceph, action, &disk).run().succeeds();
            (start.elapsed(), contents(&ceph))
        });
        prepare(&ceph);
        let before = contents(&ceph);
        let delay = *time * (dice.below(1100) as u32) / 1000;
        let (driver, programs) =
            [(true, false), (false, true), (true, true)][dice.below(3) as usize];
        let what = format!(
            "{action:?} takes {time:?}; after {delay:?} killed: driver {driver}, programs {programs}"
        );
        println!("{what}");
        kill_after(&ceph, &call(&ceph, action, &disk), delay, driver, programs);
        ceph.settle();
        if action.0 != "rm" {
            // Any action on the image completes it or takes it back.
            ceph.on_image("export", 5).run().succeeds();
            sound(&contents(&ceph), &before, after, &what);
        }
        // What makes an image is called for another one only once oned has removed the first.
        if ["cp", "clone", "mkfs"].contains(&action.0) {
            ceph.on_image("rm", 6).run().succeeds();
        }
        call(&ceph, action, &disk).run().succeeds();
        let now = contents(&ceph);
        let is_there = |list: &[(String, String)]| {
            let mut names: Vec<_> = list.to_vec();
            names.retain(|(name, _)| !name.starts_with("one-5-"));
            names
        };
        assert_eq!(is_there(&now), is_there(after), "{what}, and called again");
        if action.0 == "cp" {
            assert!(ceph.content("one-6") == bytes, "{what}");
        }
        ceph.is_at_rest();
    }
}

/// Checks that the image is in one of its states, and every snapshot what it was.
fn sound(
    now: &[(String, String)],
    before: &[(String, String)],
    after: &[(String, String)],
    what: &str,
) {
    let head = |list: &[(String, String)]| {
        list.iter().find(|(name, _)| name == "one-5").map(|(_, text)| text.clone())
    };
    assert!(head(now) == head(before) || head(now) == head(after), "{what}: {now:?}");
    for entry in now.iter().filter(|(name, _)| name.starts_with('@')) {
        assert!(before.contains(entry), "{what}: {entry:?} in {now:?}");
    }
    // What the action does not delete is there.
    for entry in after.iter().filter(|(name, _)| name.starts_with('@')) {
        assert!(now.contains(entry), "{what}: {entry:?} is missing in {now:?}");
    }
}
