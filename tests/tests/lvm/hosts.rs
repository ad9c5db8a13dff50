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
    if id.is_multiple_of(3) { persistent(call) } else { call }
}

fn rm<'c>(machines: &Machines, cloud: &'c Cloud, id: u32) -> Call<'c> {
    machines.call(cloud, "rm", id).set("IMAGE/SOURCE", format!("vg-one-104/img-one-{id}"))
}

/// Both machines see these images, all of them at rest.
#[track_caller]
fn hold(machines: &Machines, ids: impl IntoIterator<Item = u32>) {
    let mut expected: Vec<String> = Vec::new();
    for id in ids {
        if id.is_multiple_of(3) {
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

/// One boot for all of it: that takes longer than the tests.
#[test]
fn two_hosts_share_a_group_under_the_front_ends_lock_whatever_breaks() {
    let machines = Machines::new();
    two_hosts_work_on_one_group_at_once(&machines);
    a_clone_out_of_another_hosts_group_goes_through_the_front_end(&machines);
    a_call_that_is_cut_off_has_happened_or_not(&machines);
    let _ = fs::remove_file(LOCK);
    let _ = fs::remove_dir("/var/lock/one");
}

fn two_hosts_work_on_one_group_at_once(machines: &Machines) {
    let cloud = Cloud::new();
    let disks: Vec<_> = (0..8)
        .map(|id| cloud.file(&format!("disk{id}.img"), pattern(id, 3 * MIB as usize)))
        .collect();
    let disk = |id: u32| &disks[usize::try_from(id).unwrap()];
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
    all((0..4).map(|id| cp(machines, &cloud, id, disk(id))).collect());
    hold(machines, 0..4);
    // Both remove and make at the same time.
    let going = (0..4).map(|id| rm(machines, &cloud, id));
    let coming = (4..8).map(|id| cp(machines, &cloud, id, disk(id)));
    all(going.zip(coming).flat_map(|(one, other)| [one, other]).collect());
    hold(machines, 4..8);
    for id in 4..8 {
        // Whichever host made it, the other reads the same.
        let other = if id % 2 == 0 { 1 } else { 2 };
        let content = machines.content(other, &format!("img-one-{id}"), 3 * MIB as usize);
        assert_eq!(content, digest("sha256sum", disk(id)), "image {id}");
    }

    // What is in the making on another host is not this host's to sweep; its own is.
    machines.on(
        1,
        "lvcreate -q -an -ky -Wn -Zn -L 8M -n img-one-20 --addtag ferrostore.making.machine1 vg-one-104",
    );
    rm(machines, &cloud, 4).run().succeeds();
    let names = machines.volumes(2);
    assert!(names.iter().any(|line| line.starts_with("img-one-20:")), "{names:?}");
    rm(machines, &cloud, 5).run().succeeds();
    hold(machines, 6..8);

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
    hold(machines, 6..8);

    // Whoever holds the front-end's lock is waited for.
    let lock = fs::File::options().write(true).open(LOCK).unwrap();
    lock.lock().unwrap();
    let (mut child, input) = rm(machines, &cloud, 6).start();
    send(&mut child, input);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waiting = said.find(|line| line.contains(LOCK)).expect("it says for what it waits");
    assert!(waiting.starts_with("INFO: ") && waiting.contains("held by process"), "{waiting}");
    drop(lock);
    assert!(child.wait().unwrap().success());
    hold(machines, 7..8);
    let usage = machines.call(&cloud, "monitor", 0).run().succeeds().text;
    assert!(usage.contains("USED_MB=4\n"), "{usage}");
    rm(machines, &cloud, 7).run().succeeds();
    hold(machines, []);
}

fn only_on<'c>(call: Call<'c>, host: &str) -> Call<'c> {
    call.set("DATASTORE/TEMPLATE/BRIDGE_LIST", host)
}

fn clone<'c>(machines: &Machines, cloud: &'c Cloud, id: u32, path: &str) -> Call<'c> {
    let call = machines.call(cloud, "clone", id).path(path).set("IMAGE/FORMAT", "raw");
    only_on(call, "machine1").set("SOURCE_BRIDGE_LIST", "machine2")
}

fn a_clone_out_of_another_hosts_group_goes_through_the_front_end(machines: &Machines) {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(9, 3 * MIB as usize));
    let expected = digest("sha256sum", &disk);
    // A group that only the second host has, as datastore 105.
    machines.on(
        2,
        "truncate -s 64M /run/disk && vgcreate -q -y vg-one-105 $(losetup -f --show /run/disk)",
    );
    for (id, persist) in [(7, false), (9, true)] {
        let call = only_on(machines.call(&cloud, "cp", id), "machine2")
            .path(&disk)
            .set_escaped("DATASTORE/ID", "105");
        if persist { persistent(call) } else { call }.run().succeeds();
        let source = format!("vg-one-105/img-one-{id}");
        clone(machines, &cloud, 10, &source).run().succeeds();
        persistent(clone(machines, &cloud, 12, &source)).run().succeeds();
        hold(machines, [10, 12]);
        for id in [10, 12] {
            let volume = format!("img-one-{id}");
            assert_eq!(machines.content(1, &volume, 3 * MIB as usize), expected, "{source}");
            rm(machines, &cloud, id).run().succeeds();
        }
    }
    let at_rest = machines.on(2, "lvs --noheadings -o lv_attr vg-one-105");
    assert!(at_rest.lines().all(|line| line.trim()[4..6] == *"--"), "{at_rest}");
    // Both hosts have this group: the one reads what the other writes beside.
    cp(machines, &cloud, 7, &disk).run().succeeds();
    clone(machines, &cloud, 8, "vg-one-104/img-one-7").run().succeeds();
    hold(machines, [7, 8]);
    assert_eq!(machines.content(2, "img-one-8", 3 * MIB as usize), expected);
    clone(machines, &cloud, 11, "vg-one-105/img-one-8").run().fails();
    hold(machines, [7, 8]);
    for id in [7, 8] {
        rm(machines, &cloud, id).run().succeeds();
    }
    hold(machines, []);
    machines.on(2, "vgremove -q -y -f vg-one-105");
}

/// Ways to cut a driver off that works on the first machine.
const CUTS: [&str; 4] = ["driver here", "driver there", "connection here", "connection there"];

fn cut_off(machines: &Machines, how: &str, action: &str, driver: u32) {
    let there = |victim: &str| {
        machines.on(1, &format!("driver=$(pgrep -xo {action}) && kill -KILL {victim} || :"));
    };
    let kill = |process: &str| run("kill", ["-s", "KILL", process]);
    match how {
        "driver here" => drop(kill(&driver.to_string())),
        "driver there" => there("$driver"),
        "connection there" => there("$(ps -o ppid= -p $driver)"),
        _ => {
            let children = fs::read_to_string(format!("/proc/{driver}/task/{driver}/children"));
            if let Some(ssh) = children.unwrap_or_default().split_whitespace().next() {
                kill(ssh);
            }
        }
    }
}

fn a_call_that_is_cut_off_has_happened_or_not(machines: &Machines) {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(9, 6 * MIB as usize));
    let begin_of_1 = || machines.content(1, "img-one-3", 4096);
    persistent(cp(machines, &cloud, 3, &disk)).run().succeeds();
    let old = begin_of_1();
    machines.on(1, "lvcreate -q -s -an -ky -n img-one-3_one_s0 vg-one-104/img-one-3");
    machines.on(1, "lvchange -K -ay vg-one-104/img-one-3 && dd if=/dev/zero of=/dev/vg-one-104/img-one-3 bs=4k count=1 conv=fsync && lvchange -an vg-one-104/img-one-3");
    let new = begin_of_1();
    assert_ne!(old, new);
    let before = machines.volumes(1);
    let source = "vg-one-104/img-one-3";
    let calls = [
        ("cp", cp(machines, &cloud, 5, &disk)),
        ("clone", machines.call(&cloud, "clone", 7).path(source).set("IMAGE/FORMAT", "raw")),
        (
            "snap_revert",
            machines
                .call(&cloud, "snap_revert", 3)
                .set("IMAGE/SOURCE", source)
                .set("IMAGE/TARGET_SNAPSHOT", "0"),
        ),
    ];
    let (mut happened, mut failed) = (0, 0);
    for (action, call) in calls {
        let call = persistent(only_on(call, "machine1"));
        let id = if action == "cp" { 5 } else { 7 };
        for how in CUTS {
            for moment in [200, 700, 1200, 2000] {
                let at = format!("{action}, {how} cut after {moment} ms");
                let (mut child, input) = call.start();
                send(&mut child, input);
                thread::sleep(Duration::from_millis(moment));
                cut_off(machines, how, action, child.id());
                let done = child.wait().unwrap().success();
                // What goes on there, or has to wait for the connection to be given up, ends before long.
                let start = Instant::now();
                while !machines.on(1, &format!("pgrep -x '{action}|lv[a-z]*' || :")).is_empty() {
                    assert!(start.elapsed() < Duration::from_secs(90), "it goes on: {at}");
                    thread::sleep(Duration::from_millis(200));
                }
                only_on(machines.call(&cloud, "monitor", 0), "machine1").run().succeeds();
                let now = machines.volumes(1);
                let change: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
                let there = now.len() > before.len();
                let image =
                    [format!("img-one-{id}-pool:twi---tz-k:"), format!("img-one-{id}:Vwi---tz-k:")];
                assert!(
                    change.is_empty() || change == image.iter().collect::<Vec<_>>(),
                    "{at}: {now:?}"
                );
                assert!(before.iter().all(|line| now.contains(line)), "{at}: {now:?}");
                if action == "snap_revert" {
                    let begin = begin_of_1();
                    assert!(begin == old || (begin == new && !done), "{at}");
                    if begin == old {
                        happened += 1;
                        machines.on(1, "lvchange -K -ay vg-one-104/img-one-3 && dd if=/dev/zero of=/dev/vg-one-104/img-one-3 bs=4k count=1 conv=fsync && lvchange -an vg-one-104/img-one-3");
                    }
                } else {
                    assert!(there == done || (there && how == "driver here"), "{at}");
                    if there {
                        happened += 1;
                        let first = machines.content(1, &format!("img-one-{id}"), 4096);
                        assert_eq!(
                            first,
                            if action == "cp" { &old } else { &new }.as_str(),
                            "{at}"
                        );
                        rm(machines, &cloud, id).run().succeeds();
                    }
                }
                failed += u32::from(!done);
            }
        }
    }
    println!(
        "{} calls cut off: {failed} failed, {happened} had happened, 0 left-overs",
        CUTS.len() * 4 * 3
    );
    assert!(failed >= 20, "many cuts hit: {failed}");
    rm(machines, &cloud, 3).run().succeeds();
    hold(machines, []);
}
