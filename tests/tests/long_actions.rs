//! Actions that take long: what oned is told of them, and how they end where their image was deleted.

use ferrostore_tests::layouts::{Chain, Copies, Layout};
use ferrostore_tests::{Answer, Bridges, Call, Cloud, MIB, Oned, Page, Rule, Web, run};
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The image of these calls.
const IMAGE: u64 = 7;

/// A cloud with oned, and a server of images.
struct World {
    cloud: Cloud,
    oned: Oned,
    web: Web,
}

impl World {
    fn new() -> Self {
        Self::answering(Answer::Hosts(Vec::new()))
    }

    fn answering(answer: Answer) -> Self {
        Self { cloud: Cloud::new(), oned: Oned::answering(answer), web: Web::new() }
    }

    /// Registers an image that takes so long to download.
    fn download(&self, seconds: u64) -> Call<'_> {
        let rate = MIB;
        let disk = self.cloud.raw("disk.img", seconds * rate);
        let url = self.web.page("disk.img", Page::of(&disk).at_rate(rate));
        self.known(self.cloud.cp(url))
    }

    fn known<'c>(&self, call: Call<'c>) -> Call<'c> {
        self.oned.known_to(call)
    }

    /// Runs `call`, whose image is deleted after so long; how long it took.
    #[track_caller]
    fn deleting_after(&self, delay: Duration, call: Call) -> Duration {
        let start = Instant::now();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(delay);
                self.oned.delete_image(IMAGE);
            });
            call.run()
        });
        let took = start.elapsed();
        outcome.fails().saying("image 7 no longer exists").saying("nothing was changed");
        let line = self.cloud.last_call();
        assert_eq!(line["result"], "cancelled", "{line}");
        assert!(line["error"].as_str().unwrap().contains("image 7"), "{line}");
        took
    }
}

/// `call`, with its first fsync taking so long.
fn slowly(call: Call<'_>, seconds: u64) -> Call<'_> {
    call.under(delaying("fsync", seconds))
}

/// What a program runs under so that its first system call of this name takes so long.
fn delaying(name: &str, seconds: u64) -> Vec<OsString> {
    let inject = format!("inject={name}:delay_enter={}:when=1", seconds * 1_000_000);
    let trace = format!("trace={name}");
    let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    words.map(OsString::from).into()
}

#[test]
fn progress_shows_in_the_image_and_its_last_value_stays() {
    let world = World::new();
    world.download(27).run().succeeds().image("raw");
    let values = world.oned.progress(IMAGE);
    let seconds = world.cloud.last_call()["seconds"].as_f64().unwrap();
    // After 10 s, every 15 s from then on, and at the end.
    let most = 2 + Duration::from_secs_f64(seconds - 10.0).as_secs() / 15;
    assert!((3..=most).contains(&(values.len() as u64)), "{values:?} in {seconds} s");
    let (first, last) = (&values[0], values.last().unwrap());
    assert!(first.starts_with("cp ") && first.contains(" % of 27 MiB, "), "{first}");
    assert!(first.contains(" KiB/s") || first.contains(" MiB/s"), "{first}");
    assert!(first.contains("about ") && first.ends_with(" s left"), "{first}");
    assert!(last.starts_with("cp done in ") && last.ends_with(" s, 27 MiB"), "{last}");
}

#[test]
fn every_long_action_tells_its_progress_and_a_failure_its_end() {
    thread::scope(|scope| {
        for action in ["clone", "mkfs", "snap_flatten", "cp"] {
            scope.spawn(move || {
                let world = World::new();
                let disk = world.cloud.raw("disk.img", MIB);
                let call = match action {
                    "clone" => world.cloud.clone_of(world.cloud.stored(1, &disk), "raw"),
                    "mkfs" => world.cloud.mkfs("qcow2", "10"),
                    "snap_flatten" => {
                        let copies = Copies::of_three(&world.cloud, "raw");
                        world.cloud.snap("snap_flatten", copies.source(), "raw", 0)
                    }
                    _ => world.download(11).set("IMAGE/TEMPLATE/MD5", "0".repeat(32)),
                };
                let end = if action == "cp" {
                    drop(call.run().refused(Rule::DigestMismatch));
                    "failed after "
                } else {
                    slowly(world.known(call), 11).run().succeeds();
                    "done in "
                };
                let values = world.oned.progress(IMAGE);
                assert!(!values.is_empty(), "{action}");
                for value in &values {
                    assert!(value.starts_with(&format!("{action} ")), "{value}");
                }
                assert!(values.last().unwrap().contains(end), "{values:?}");
            });
        }
    });
}

#[test]
fn an_image_that_is_deleted_in_mid_download_leaves_nothing() {
    let world = World::new();
    let took = world.deleting_after(Duration::from_secs(3), world.download(40));
    assert!(took < Duration::from_secs(23), "the driver ended {took:?} after its start");
    let asked = world.oned.requests().len();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(world.oned.requests().len(), asked, "nothing goes on");
}

#[test]
fn an_image_that_is_deleted_later_is_noticed_within_20_seconds() {
    let world = World::new();
    let delay = Duration::from_secs(12);
    let took = world.deleting_after(delay, world.download(60));
    assert!(took < delay + Duration::from_secs(20), "the driver ended {took:?} after its start");
}

#[test]
fn what_takes_over_two_seconds_asks_once_before_it_commits() {
    let world = World::new();
    world.download(3).run().succeeds().image("raw");
    assert_eq!(world.oned.methods().last().unwrap(), "one.image.info");
    if world.cloud.last_call()["seconds"].as_f64().unwrap() < 9.0 {
        assert_eq!(world.oned.methods().len(), 1);
    }
    world.deleting_after(Duration::from_secs(1), world.download(3));
}

#[test]
fn what_is_quick_asks_nothing() {
    let world = World::new();
    let disk = world.cloud.raw("disk.img", MIB);
    let image = world.cloud.cp(&disk).run().succeeds().image("raw");
    std::fs::create_dir(image.with_extension("snap")).unwrap();
    let calls = || {
        let every = world.cloud.every_action(&disk, &image).into_iter();
        [world.cloud.cp(&disk)].into_iter().chain(every.map(|(_, call)| call))
    };
    for call in calls() {
        let before = world.oned.requests().len();
        world.known(call).run();
        let line = world.cloud.last_call();
        // On a busy machine even these may take two seconds.
        if line["seconds"].as_f64().unwrap() < 2.0 {
            assert_eq!(world.oned.requests().len(), before, "{line}");
        }
    }
}

#[test]
fn quick_actions_ask_nothing_even_where_they_are_slow() {
    let world = World::new();
    let source = world.cloud.source(1);
    std::fs::write(&source, "x").unwrap();
    world.oned.delete_image(IMAGE);
    let call = slowly(world.known(world.cloud.rm(&source)), 3);
    call.run().succeeds().silently();
    assert_eq!(world.oned.requests(), [""; 0]);
}

#[test]
fn every_other_answer_changes_nothing() {
    thread::scope(|scope| {
        for answer in [Answer::Refusal, Answer::Silence, Answer::Trickle, Answer::Nonsense] {
            scope.spawn(move || {
                let world = World::answering(answer.clone());
                let start = Instant::now();
                let reply = world.download(11).run().succeeds();
                // Silence lasts 30 s.
                assert!(start.elapsed() < Duration::from_secs(26), "{answer:?}: {start:?}");
                assert_eq!(reply.outcome.stderr_text(), "", "{answer:?}");
                assert!(!world.oned.requests().is_empty(), "{answer:?}: it was asked");
            });
        }
        scope.spawn(|| {
            let world = World::new();
            let call = world.download(11).environment("ONE_XMLRPC", "http://127.0.0.1:1/RPC2");
            assert_eq!(call.run().succeeds().outcome.stderr_text(), "");
        });
    });
}

#[test]
fn progress_can_be_turned_off_and_a_deleted_image_is_noticed_all_the_same() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let world = World::new();
            let call = world.download(11).set("DATASTORE/TEMPLATE/PROGRESS", "no");
            call.run().succeeds();
            assert!(!world.oned.methods().contains(&"one.image.update".to_owned()));
        });
        scope.spawn(|| {
            let world = World::new();
            world.cloud.datastore_conf("PROGRESS=no\n");
            world.deleting_after(Duration::from_secs(1), world.download(40));
            assert!(!world.oned.methods().contains(&"one.image.update".to_owned()));
        });
    });
}

#[test]
fn by_hand_or_without_credentials_oned_is_not_asked() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let world = World::new();
            world.oned.delete_image(IMAGE);
            let call = world.download(3).by(ferrostore_tests::Convention::FileXml);
            call.run().succeeds();
            assert_eq!(world.oned.requests(), [""; 0]);
        });
        scope.spawn(|| {
            let world = World::new();
            let call = world.download(3).environment("ONE_AUTH", "/no/such/file");
            call.run().succeeds();
            assert_eq!(world.oned.requests(), [""; 0]);
        });
    });
}

#[test]
fn clones_and_empty_images_ask_before_they_commit() {
    let world = World::new();
    let disk = world.cloud.raw("disk.img", MIB);
    let image = world.cloud.cp(&disk).run().succeeds().image("raw");
    let source = format!("{}/{}", world.cloud.base_path(), image.file_name().unwrap().display());
    world.oned.delete_image(IMAGE);
    for call in [world.cloud.clone_of(source, "raw"), world.cloud.mkfs("qcow2", "10")] {
        world.deleting_after(Duration::ZERO, slowly(world.known(call), 3));
    }
    assert_eq!(world.oned.methods(), ["one.image.info"; 2]);
}

#[test]
fn a_flattened_image_that_was_deleted_keeps_its_old_state() {
    let world = World::new();
    let copies = Copies::of_three(&world.cloud, "raw");
    let call = world.cloud.snap("snap_flatten", copies.source(), "raw", 0);
    world.deleting_after(Duration::ZERO, slowly(world.known(call), 3));
}

#[test]
fn the_driver_on_a_bridge_host_is_ended_by_the_one_on_the_front_end() {
    thread::scope(|scope| {
        for in_mid_transfer in [true, false] {
            scope.spawn(move || {
                let world = World::new();
                let bridges = Bridges::of(&world.cloud, 1);
                let (seconds, delay) = if in_mid_transfer { (40, 3) } else { (4, 1) };
                let call = world.download(seconds);
                let call = world.oned.known_to(bridges.bridged(call));
                let took = world.deleting_after(Duration::from_secs(delay), call);
                assert!(took < Duration::from_secs(23), "{took:?}");
                assert_eq!(world.cloud.last_call()["bridge"], "host1");
                let left = bridges
                    .host(1)
                    .run(&format!("ls -A {}", bridges.host(1).datastore().display()));
                assert_eq!(String::from_utf8_lossy(&left.stdout), "");
                assert!(nothing_runs(bridges.host(1).datastore()));
            });
        }
    });
}

/// `call` by way of a bridge host, with ssh so slow to start that it takes over two seconds.
fn slowly_bridged<'c>(world: &World, bridges: &Bridges, call: Call<'c>) -> Call<'c> {
    let wrapper = [bridges.neighbour(), delaying("socketpair", 3)].concat();
    world.oned.known_to(bridges.bridged(call).under(wrapper))
}

#[test]
fn a_flattened_image_on_a_bridge_host_that_was_deleted_keeps_its_old_state() {
    let world = World::new();
    let chain = Chain::of_four(&world.cloud, Layout::MOVABLE);
    let bridges = Bridges::of(&world.cloud, 1);
    let host = bridges.host(1);
    let listing = || host.run(&format!("ls -lARi {}", host.datastore().display())).stdout;
    let before = listing();
    let questions = |world: &World| {
        world.oned.methods().into_iter().filter(|method| method == "one.image.info").count()
    };
    let call = slowly_bridged(&world, &bridges, chain.call("snap_flatten", 0));
    world.deleting_after(Duration::ZERO, call);
    assert_eq!(questions(&world), 1);
    assert_eq!(String::from_utf8_lossy(&listing()), String::from_utf8_lossy(&before));
    assert!(nothing_runs(host.datastore()));
    // One that still exists is flattened.
    let world = World::new();
    let chain = Chain::of_four(&world.cloud, Layout::MOVABLE);
    let bridges = Bridges::of(&world.cloud, 1);
    let call = slowly_bridged(&world, &bridges, chain.call("snap_flatten", 0));
    call.run().succeeds().silently();
    assert_eq!(questions(&world), 1);
    chain.check_content(bridges.host(1).datastore().join(chain.name()), 0);
}

/// Whether no driver is at work on what is below `path`.
fn nothing_runs(path: &Path) -> bool {
    let open = std::process::Command::new("sh")
        .args(["-c", "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -F -- \"$1\"", "sh"])
        .arg(path)
        .output()
        .unwrap();
    open.stdout.is_empty()
}

#[test]
fn sigusr1_asks_how_far_it_is_and_changes_nothing() {
    let world = World::new();
    let call = world.download(4);
    let (mut child, input) = call.start();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &input.unwrap()).unwrap();
    while world.web.requests().is_empty() {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(1500));
    run("kill", ["-USR1", &child.id().to_string()]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("INFO: cp: ") && said.contains(" % of 4 MiB, "), "{said:?}");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    // Where there is nothing to tell, nothing happens either.
    let monitor = world.cloud.monitor().under([
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "inject=statfs:signal=SIGUSR1",
    ]);
    monitor.run().succeeds();
}

#[test]
fn a_person_at_a_terminal_sees_rate_and_time_left() {
    let world = World::new();
    // Runs a program in a terminal of its own.
    let terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
    let call = world.download(4).by(ferrostore_tests::Convention::FileXml);
    let call = call.environment("TERM", "xterm").under(["python3", "-c", terminal]);
    let output = call.output();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("of 4.00 MiB") && shown.contains("iB/s, "), "{shown}");
    // At 1 MiB a second; nothing comes at once.
    assert!(shown.contains("s left") && !shown.contains("GiB/s"), "{shown}");
    assert!(shown.trim_end().ends_with(" raw"), "the reply follows: {shown}");
}

#[test]
fn scripts_are_told_in_json() {
    let cloud = Cloud::new();
    let web = Web::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let url = web.page("disk.img", Page::of(&disk).at_rate(MIB));
    let said = |call: Call| {
        let outcome = call.arguments(["--progress", "json"]).run();
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr_text());
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        outcome.stderr_text().lines().map(parse).collect::<Vec<serde_json::Value>>()
    };
    let lines = said(cloud.cp(url));
    assert!(lines.len() >= 3, "{lines:?}");
    for (number, line) in lines.iter().enumerate() {
        assert_eq!((&line["action"], &line["total"]), (&"cp".into(), &(3 * MIB).into()), "{line}");
        assert_eq!(line["ended"], number + 1 == lines.len(), "{line}");
    }
    assert_eq!(lines.last().unwrap()["done"], 3 * MIB);
    assert!(lines[0]["bytes_per_second"].as_u64().unwrap() > 0, "{lines:?}");
    assert_eq!(said(cloud.cp(&disk)).len(), 1, "what is quick has its last line");
    let refused = cloud.cp(&disk).arguments(["--progress", "loud"]).run().fails();
    refused.saying("--progress must be bar, json or none");
}
