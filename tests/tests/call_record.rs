//! The record of each call: one JSON line, whatever happens, and what is done with it.

use ferrostore_tests::{ACTIONS, Cloud, Disk, Fault, MIB, Page, Rule, Web, digest};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::thread;

#[test]
fn every_action_leaves_one_line() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let source = cloud.cp(&disk).run().succeeds().image("raw");
    fs::create_dir(source.with_extension("snap")).unwrap();
    for (action, call) in cloud.every_action(&disk, &source) {
        let before = cloud.calls().len();
        let outcome = call.run();
        let calls = cloud.calls();
        assert_eq!(calls.len(), before + 1, "{action}");
        let line = &calls[before];
        assert_eq!(line["action"], action);
        assert_eq!(line["kind"], "fs", "{action}: {line}");
        let good = outcome.status.success();
        assert_eq!(line["result"], if good { "success" } else { "failure" }, "{line}");
        assert_eq!(line["error"].is_null(), good, "{line}");
        for name in ["time", "host", "version"] {
            assert!(line[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {line}");
        }
        assert!(line["seconds"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["lock_wait_seconds"].as_f64().is_some(), "{line}");
        assert_eq!(line["datastore"], 104, "{line}");
    }
    let actions: Vec<Value> = cloud.calls().iter().map(|call| call["action"].clone()).collect();
    assert!(ACTIONS.iter().all(|action| actions.contains(&json!(action))), "{actions:?}");
    assert_eq!(cloud.call_log().metadata().unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn a_registration_tells_formats_bytes_and_digest() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 8 * MIB);
    let packed = cloud.compressed(&disk, "gzip");
    let sha256 = digest("sha256sum", &packed);
    let size = packed.metadata().unwrap().len();
    let web = Web::new();
    let url = web.serve(&packed);
    let call = cloud.cp(&url).driver("qcow2").set("IMAGE/TEMPLATE/SHA256", &sha256);
    call.run().succeeds().image("qcow2");
    let line = cloud.last_call();
    assert_eq!(line["source"], url);
    assert_eq!(line["image"], 7);
    assert_eq!((&line["format_in"], &line["format_out"]), (&json!("raw"), &json!("qcow2")));
    assert_eq!(line["compression"], "gzip");
    assert_eq!(line["sha256"], sha256);
    assert_eq!(line["bytes_read"], size);
    let moved = line["bytes_written"].as_u64().unwrap() + line["bytes_zero"].as_u64().unwrap();
    assert_eq!(moved, 8 * MIB, "{line}");
    assert_eq!((&line["bytes_shared"], &line["resumed"]), (&json!(0), &json!(0)));
}

#[test]
fn shared_bytes_are_told_apart_from_written_ones() {
    let cloud = Cloud::on(Disk::Xfs(400 * MIB));
    let disk = cloud.raw("disk.img", 8 * MIB);
    cloud.cp(&disk).run().succeeds().image("raw");
    let line = cloud.last_call();
    assert_eq!(line["bytes_shared"], 8 * MIB, "{line}");
    assert_eq!((&line["bytes_read"], &line["bytes_written"]), (&json!(0), &json!(0)));
}

#[test]
fn a_download_that_goes_on_says_so() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 4 * MIB);
    let web = Web::new();
    let url = web.page("disk.img", Page::of(&disk).first(Fault::CutAfter(MIB)));
    cloud.cp(url).run().succeeds().image("raw");
    let line = cloud.last_call();
    assert_eq!((&line["resumed"], &line["bytes_read"]), (&json!(1), &json!(4 * MIB)));
}

#[test]
fn secrets_are_left_out() {
    let cloud = Cloud::new();
    let web = Web::new();
    let address = web.address();
    let url = format!("http://tom:hunter2@{address}/x.img?token=hunter2&X-Amz-Signature=hunter2");
    cloud.cp(url).run().fails().saying("Not Found");
    let text = fs::read_to_string(cloud.call_log()).unwrap();
    assert!(text.contains("/x.img") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_line_is_whole_and_short_whatever_the_message_holds() {
    let cloud = Cloud::new();
    for name in ["\u{1}\"\\".repeat(3000), "é".repeat(5000), "a\nb".repeat(900)] {
        cloud.cp(cloud.images().join(name)).run().fails().saying("can't be opened");
    }
    let strange = cloud.images().join("caf\u{e9}");
    let path = [strange.to_str().unwrap().as_bytes(), b"\xff\xfe"].concat();
    cloud.cp("x").set("IMAGE/PATH", path).run().fails().saying("can't be opened");
    let text = fs::read_to_string(cloud.call_log()).unwrap();
    assert_eq!(text.lines().count(), 4);
    for line in text.lines() {
        assert!(line.len() < 4096, "{} bytes", line.len());
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["result"], "failure");
    }
    // What is no message at all has its line too.
    cloud.call("cp").input("nonsense").run().refused_by_any(&[Rule::NotXml, Rule::NotBase64]);
    assert_eq!(cloud.last_call()["action"], "cp");
}

#[test]
fn a_line_is_one_write_at_the_end_of_the_file() {
    let cloud = Cloud::new();
    cloud.monitor().run().succeeds();
    let trace = cloud.root().join("trace");
    let strace = ["strace", "-f", "-qq", "-y", "-e", "trace=openat,write,pwrite64,writev", "-o"];
    let wrapper = strace.into_iter().chain([trace.to_str().unwrap()]);
    cloud.monitor().under(wrapper).run().succeeds();
    let text = fs::read_to_string(trace).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("ferrostore.jsonl")).collect();
    let (opened, written): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.contains("openat("));
    assert!(opened.iter().all(|line| line.contains("O_APPEND")), "{opened:?}");
    assert_eq!(written.len(), 1, "{written:?}");
}

#[test]
fn lines_of_drivers_at_the_same_time_do_not_mix() {
    let cloud = Cloud::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    cloud.monitor().without_listing().run().succeeds();
                }
            });
        }
    });
    let calls = cloud.calls();
    assert_eq!(calls.len(), 40);
    assert!(calls.iter().all(|call| call["action"] == "monitor"));
}

#[test]
fn the_administrator_chooses_the_file_or_none() {
    let cloud = Cloud::new();
    for no in ["no", "NO", "\"no\""] {
        cloud.datastore_conf(&format!("CALL_LOG={no}\n"));
        cloud.monitor().run().succeeds();
        assert!(!cloud.call_log().exists(), "CALL_LOG={no}");
    }
    cloud.ferrostore(["log"]).refusing("CALL_LOG=no");
    let other = cloud.root().join("calls");
    cloud.datastore_conf(&format!("CALL_LOG=\"{}\"\n", other.display()));
    cloud.monitor().run().succeeds();
    assert!(!cloud.call_log().exists());
    assert_eq!(fs::read_to_string(&other).unwrap().lines().count(), 1);
    assert_eq!(cloud.ferrostore(["log"]).well().text.lines().count(), 1);
}

#[test]
fn a_record_that_cannot_be_written_is_no_failure() {
    let cloud = Cloud::new();
    let log = cloud.call_log();
    let target = cloud.root().join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, &log).unwrap();
    cloud.monitor().run().succeeds();
    assert_eq!(fs::read(&target).unwrap(), b"", "a link is not followed");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    cloud.monitor().run().succeeds();
    fs::remove_dir(&log).unwrap();
    ferrostore_tests::run("mkfifo", [&log]);
    cloud.monitor().run().succeeds();
    fs::remove_file(&log).unwrap();
    cloud.datastore_conf("CALL_LOG=/dev/full\n");
    cloud.monitor().run().succeeds();
    cloud.datastore_conf("CALL_LOG=/no/such/folder/log\n");
    cloud.monitor().run().succeeds();
}

#[test]
fn oneadmin_can_go_on_with_a_record_that_root_began() {
    let cloud = Cloud::new();
    cloud.hand_over_to(65534);
    let var = cloud.one_location().join("var");
    std::os::unix::fs::chown(&var, Some(65534), Some(65534)).unwrap();
    cloud.monitor().run().succeeds();
    cloud.monitor().as_user(65534).run().succeeds();
    assert_eq!(cloud.calls().len(), 2);
}

#[test]
fn a_stopped_driver_is_recorded_as_stopped() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 4 * MIB);
    let web = Web::new();
    let url = web.page("disk.img", Page::of(&disk).always(Fault::StallAfter(MIB)));
    let (mut child, input) = cloud.cp(url).start();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &input.unwrap()).unwrap();
    while web.requests().is_empty() {
        thread::sleep(std::time::Duration::from_millis(20));
    }
    ferrostore_tests::run("kill", ["-TERM", &child.id().to_string()]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let line = cloud.last_call();
    assert_eq!(line["result"], "stopped", "{line}");
    assert!(line["error"].as_str().unwrap().contains("SIGTERM"), "{line}");
}

#[test]
fn time_spent_waiting_for_a_lock_is_told() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.cp(&disk).run().succeeds().image("raw");
    let work = cloud.datastore().join(".ferrostore-work");
    fs::create_dir_all(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o770)).unwrap();
    let name = image.file_name().unwrap().to_str().unwrap();
    let lock = work.join(format!("lock.{name}"));
    // The byte that the drivers lock, held for a second by a program that they don't know.
    let holder = format!(
        "import fcntl,struct,time,os\nf=open({lock:?},'w+')\n\
         fcntl.fcntl(f,37,struct.pack('hhqqi4x',fcntl.F_WRLCK,0,1<<62,1,0))\n\
         print('held',flush=True)\ntime.sleep(1)\nos.remove({lock:?})\n"
    );
    let mut python = std::process::Command::new("python3")
        .args(["-c", &holder])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(python.stdout.as_mut().unwrap(), &mut said).unwrap();
    cloud.rm(cloud.base_path() + "/" + name).run();
    python.wait().unwrap();
    let line = cloud.last_call();
    assert_eq!(line["result"], "success", "{line}");
    assert!(line["lock_wait_seconds"].as_f64().unwrap() > 0.5, "{line}");
}
