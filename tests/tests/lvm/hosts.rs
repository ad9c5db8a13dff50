//! Bridge hosts that share a volume group: two machines with one disk between them, and this one as their
//! front-end.

use ferrostore_tests::{Call, Cloud, MIB, Machines, Page, Web, digest, pattern, persistent, run};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

const LOCK: &str = "/var/lock/one/tm-onelvm-vg-one-104.lock";

fn cp<'c>(machines: &Machines, cloud: &'c Cloud, id: u32, path: &std::path::Path) -> Call<'c> {
    let call = machines.call(cloud, "cp", id).path(path);
    if id % 3 == 0 { persistent(call) } else { call }
}

fn rm<'c>(machines: &Machines, cloud: &'c Cloud, id: u32) -> Call<'c> {
    machines.call(cloud, "rm", id).set("IMAGE/SOURCE", format!("vg-one-104/img-one-{id}"))
}

/// Both machines see these images, all of them at rest.
#[track_caller]
fn hold(machines: &Machines, ids: impl IntoIterator<Item = u32>) {
    let mut expected: Vec<String> = Vec::new();
    for id in ids {
        if id % 3 == 0 {
            expected.push(format!("img-one-{id}-pool:twi---tz-k:"));
            expected.push(format!("img-one-{id}:Vwi---tz-k:"));
        } else {
            expected.push(format!("img-one-{id}:-wi------k:"));
        }
    }
    expected.sort();
    for machine in [1, 2] {
        assert_eq!(machines.volumes(machine), expected, "on machine{machine}");
    }
}

fn send(child: &mut Child, message: Option<Vec<u8>>) {
    child.stdin.take().unwrap().write_all(&message.unwrap()).unwrap();
}

#[test]
fn two_hosts_work_on_one_group_at_once_under_the_front_ends_lock() {
    let cloud = Cloud::new();
    let machines = Machines::new();
    let disks: Vec<_> = (0..8)
        .map(|id| cloud.file(&format!("disk{id}.img"), pattern(id, 3 * MIB as usize)))
        .collect();
    let all = |calls: Vec<Call>| {
        thread::scope(|scope| {
            for call in calls {
                // Not `succeeds`: what others leave in the log is not this call's.
                scope.spawn(move || {
                    let outcome = call.run();
                    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr_text());
                });
            }
        });
    };
    all((0..4).map(|id| cp(&machines, &cloud, id, &disks[id as usize])).collect());
    hold(&machines, 0..4);
    // Both remove and make at the same time.
    let going = (0..4).map(|id| rm(&machines, &cloud, id));
    let coming = (4..8).map(|id| cp(&machines, &cloud, id, &disks[id as usize]));
    all(going.zip(coming).flat_map(|(one, other)| [one, other]).collect());
    hold(&machines, 4..8);
    for id in 4..8 {
        // Whichever host made it, the other reads the same.
        let other = if id % 2 == 0 { 1 } else { 2 };
        let content = machines.content(other, &format!("img-one-{id}"), 3 * MIB as usize);
        assert_eq!(content, digest("sha256sum", &disks[id as usize]), "image {id}");
    }

    // What is in the making on another host is not this host's to sweep; its own is.
    machines.on(
        1,
        "lvcreate -q -an -ky -Wn -Zn -L 8M -n img-one-20 --addtag ferrostore.making.machine1 vg-one-104",
    );
    rm(&machines, &cloud, 4).run().succeeds();
    let names = machines.volumes(2);
    assert!(names.iter().any(|line| line.starts_with("img-one-20:")), "{names:?}");
    rm(&machines, &cloud, 5).run().succeeds();
    hold(&machines, 6..8);

    // A driver that is told to stop has the other side clean up, under the lock.
    let web = Web::new();
    let slow = web.page("slow", Page::of(&disks[0]).at_rate(100_000));
    let (mut child, input) = machines.call(&cloud, "cp", 9).path(slow).start();
    send(&mut child, input);
    let start = Instant::now();
    while !machines.volumes(1).iter().any(|line| line.starts_with("img-one-9:")) {
        assert!(start.elapsed() < Duration::from_secs(20), "the volume is not made");
    }
    run("kill", [child.id().to_string()]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    hold(&machines, 6..8);

    // Whoever holds the front-end's lock is waited for.
    let lock = fs::File::options().write(true).open(LOCK).unwrap();
    lock.lock().unwrap();
    let (mut child, input) = rm(&machines, &cloud, 6).start();
    send(&mut child, input);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waiting = said.find(|line| line.contains(LOCK)).expect("it says for what it waits");
    assert!(waiting.starts_with("INFO: ") && waiting.contains("held by process"), "{waiting}");
    drop(lock);
    assert!(child.wait().unwrap().success());
    hold(&machines, 7..8);
    let usage = machines.call(&cloud, "monitor", 0).run().succeeds().text;
    assert!(usage.contains("USED_MB=4\n"), "{usage}");
    let _ = fs::remove_file(LOCK);
    let _ = fs::remove_dir("/var/lock/one");
}
