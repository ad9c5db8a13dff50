//! Bridge hosts that share a volume group: two machines with one disk between them, and this one as their
//! front-end.

use ferrostore_tests::{
    Call, Cloud, MIB, Machines, Page, Rule, Web, digest, pattern, persistent, run,
};
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

    // A volume that is incomplete on another host is not removed by this host; its own is.
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

    // It waits for the process that holds the front-end's lock.
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
    machines.on(2, "vgcreate -q -y vg-one-105 /dev/vdb");
    only_on(machines.call(&cloud, "cp", 9), "machine2")
        .path(&disk)
        .set_escaped("DATASTORE/ID", "105")
        .run()
        .succeeds();
    clone(machines, &cloud, 10, "vg-one-105/img-one-9").run().succeeds();
    persistent(clone(machines, &cloud, 12, "vg-one-105/img-one-9")).run().succeeds();
    hold(machines, [10, 12]);
    for id in [10, 12] {
        let content = machines.content(1, &format!("img-one-{id}"), 3 * MIB as usize);
        assert_eq!(content, expected, "image {id}");
        rm(machines, &cloud, id).run().succeeds();
    }
    let at_rest = machines.on(2, "lvs --noheadings -o lv_attr vg-one-105");
    assert!(at_rest.lines().all(|line| line.trim()[4..6] == *"--"), "{at_rest}");
    // Both hosts have this group: the one reads what the other writes beside.
    cp(machines, &cloud, 7, &disk).run().succeeds();
    clone(machines, &cloud, 8, "vg-one-104/img-one-7").run().succeeds();
    hold(machines, [7, 8]);
    assert_eq!(machines.content(2, "img-one-8", 3 * MIB as usize), expected);
    clone(machines, &cloud, 11, "vg-one-105/img-one-8").run().refused(Rule::CantBeRead);
    hold(machines, [7, 8]);
    for id in [7, 8] {
        rm(machines, &cloud, id).run().succeeds();
    }
    hold(machines, []);
    machines.on(2, "vgremove -q -y -f vg-one-105");
}

/// Where a call is cut off that works on the first machine: its driver or its connection, at one end or the other.
const CUTS: [(&str, End); 4] = [
    ("driver here", End::Here),
    ("connection here", End::Here),
    ("driver there", End::There),
    ("connection there", End::There),
];

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// After a part, in percent, of what an uncut call takes: most of that is the connection being made.
    Here,
    /// Some seconds after the driver has begun there.
    There,
}

impl End {
    fn moments(self) -> &'static [f64] {
        match self {
            Self::Here => &[70.0, 90.0],
            Self::There => &[0.1, 0.5],
        }
    }
}

/// Starts what kills on the first machine, which is there in time only if it waits there.
fn killer_there(machines: &Machines, how: &str, action: &str, after: f64) -> Child {
    let victim = if how == "driver there" { "$driver" } else { "$(ps -o ppid= -p $driver)" };
    machines.start_on(
        1,
        &format!(
            "until driver=$(pgrep -xo '{action}-.*'); do sleep 0.1; done; sleep {after}; kill -KILL {victim}"
        ),
    )
}

fn kill_here(how: &str, driver: u32) {
    let ssh = || {
        let children = fs::read_to_string(format!("/proc/{driver}/task/{driver}/children"));
        children.unwrap_or_default().split_whitespace().next().map(str::to_owned)
    };
    let victim = if how == "driver here" { Some(driver.to_string()) } else { ssh() };
    if let Some(victim) = victim {
        let _ = std::process::Command::new("kill").args(["-s", "KILL", &victim]).status();
    }
}

/// Cuts a call for the first machine off in every way and at several moments, and has `check` look at what is there
/// after the next call: which cut, whether the call succeeded, and when that was.
fn cut_off_everywhere(
    machines: &Machines,
    cloud: &Cloud,
    action: &str,
    call: &Call,
    check: &mut dyn FnMut(&str, bool, &str),
) {
    let mut whole = Duration::ZERO;
    // The first call may have to send the driver, which takes longer.
    for at in ["first", "uncut"] {
        let start = Instant::now();
        call.clone().run().succeeds();
        whole = start.elapsed();
        check("", true, at);
    }
    for (how, end) in CUTS {
        let mut hit = 0;
        for &moment in end.moments() {
            let at = format!("{action}, {how} cut at {moment} of {whole:?}");
            let killer = (end == End::There).then(|| killer_there(machines, how, action, moment));
            let (mut child, input) = call.start();
            send(&mut child, input);
            if let Some(mut killer) = killer {
                // Where the driver was quick there is no process to kill: that does not count.
                killer.wait().unwrap();
            } else {
                thread::sleep(whole.mul_f64(moment / 100.0));
                kill_here(how, child.id());
            }
            let done = child.wait().unwrap().success();
            // Programs of LVM run to their end, and so do drivers that clean up.
            let start = Instant::now();
            while !machines.on(1, &format!("pgrep -x '{action}-.*|lv[a-z]*' || :")).is_empty() {
                assert!(start.elapsed() < Duration::from_secs(60), "it goes on: {at}");
                thread::sleep(Duration::from_millis(200));
            }
            only_on(machines.call(cloud, "monitor", 0), "machine1").run().succeeds();
            check(how, done, &at);
            hit += usize::from(!done);
        }
        println!("{action}, {how}: {} calls cut off, {hit} failed", end.moments().len());
        assert!(hit > 0, "{action}, {how}: no cut hit");
    }
}

fn a_call_that_is_cut_off_has_happened_or_not(machines: &Machines) {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(9, 6 * MIB as usize));
    let expected = digest("sha256sum", &disk);
    let length = 6 * MIB as usize;
    let call = only_on(persistent(cp(machines, &cloud, 3, &disk)), "machine1");
    cut_off_everywhere(machines, &cloud, "cp", &call, &mut |how, done, at| {
        let there = !machines.volumes(1).is_empty();
        // Who was killed may have learned that it is there, and not have said so.
        assert!(there == done || (there && how == "driver here"), "{at}");
        hold(machines, there.then_some(3));
        if there {
            assert_eq!(machines.content(1, "img-one-3", length), expected, "{at}");
            rm(machines, &cloud, 3).run().succeeds();
        }
    });

    call.run().succeeds();
    machines.on(1, "lvcreate -q -s -an -ky -n img-one-3_one_s0 vg-one-104/img-one-3");
    let overwrite = || {
        let device = "/dev/vg-one-104/img-one-3";
        machines.on(1, &format!("lvchange -K -ay {device} && dd if=/dev/zero of={device} bs=4k count=1 conv=fsync && lvchange -an {device}"));
        machines.content(1, "img-one-3", length)
    };
    let changed = overwrite();
    assert_ne!(changed, expected);
    let volumes = machines.volumes(1);
    let call = machines.call(&cloud, "snap_revert", 3);
    let call = call.set("IMAGE/SOURCE", "vg-one-104/img-one-3").set("IMAGE/TARGET_SNAPSHOT", "0");
    let call = persistent(only_on(call, "machine1"));
    cut_off_everywhere(machines, &cloud, "snap_revert", &call, &mut |_, done, at| {
        assert_eq!(machines.volumes(1), volumes, "{at}");
        let content = machines.content(1, "img-one-3", length);
        assert!(content == expected || (content == changed && !done), "{at}");
        overwrite();
    });
    rm(machines, &cloud, 3).run().succeeds();
    hold(machines, []);
}
