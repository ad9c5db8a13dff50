//! `ferrostore log` and `ferrostore metrics`: what an administrator learns of the calls.

use ferrostore_tests::docs::repository;
use ferrostore_tests::{Cloud, MIB};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A line of the record.
fn line(action: &str, result: &str, image: u64, datastore: u64, seconds: f64) -> String {
    format!(
        "{{\"time\":\"2026-11-28T17:08:{:02}.000Z\",\"host\":\"one\",\"action\":\"{action}\",\"kind\":\"fs\",\
         \"result\":\"{result}\",\"error\":\"cp: IMAGE/PATH is not there\",\"version\":\"0.1.0\",\
         \"datastore\":{datastore},\"image\":{image},\"seconds\":{seconds},\"lock_wait_seconds\":0.5,\
         \"bytes_read\":1048576,\"bytes_written\":0,\"bytes_shared\":0,\"bytes_zero\":0,\"resumed\":0}}\n",
        image % 60
    )
}

/// A cloud whose record holds these calls, as `(action, result, image, datastore, seconds)`.
fn recorded(calls: &[(&str, &str, u64, u64, f64)]) -> Cloud {
    let cloud = Cloud::new();
    let lines = calls.iter().map(|&(a, r, i, d, s)| line(a, r, i, d, s));
    fs::write(cloud.call_log(), lines.collect::<String>()).unwrap();
    cloud
}

const CALLS: [(&str, &str, u64, u64, f64); 4] = [
    ("cp", "success", 1, 100, 65.25),
    ("rm", "success", 1, 100, 0.01),
    ("cp", "failure", 2, 101, 3.0),
    ("cp", "cancelled", 3, 101, 90.0),
];

/// Image ids in the lines of `ferrostore log` with these arguments.
#[track_caller]
fn images(cloud: &Cloud, arguments: &str) -> Vec<u64> {
    let arguments = ["log"].into_iter().chain(arguments.split_whitespace());
    let text = cloud.ferrostore(arguments).well().text;
    let image = |line: &str| line.split("  image ").nth(1)?.split(' ').next()?.parse().ok();
    text.lines().filter_map(image).collect()
}

#[test]
fn calls_are_filtered_and_ordered() {
    let cloud = recorded(&CALLS);
    for (arguments, expected) in [
        ("", &[1, 1, 2, 3][..]),
        ("--last 2", &[2, 3]),
        ("--slowest --last 3", &[3, 1, 2]),
        ("--failed", &[2, 3]),
        ("--action cp --datastore 100", &[1]),
        ("--image 1 --action rm", &[1]),
        ("--image 9", &[]),
    ] {
        assert_eq!(images(&cloud, arguments), expected, "{arguments}");
    }
    cloud.ferrostore(["log", "--last", "0"]).refusing("--help");
    cloud.ferrostore(["log", "--file", "/no/such/file"]).refusing("/no/such/file");
}

#[test]
fn a_line_tells_what_the_call_did() {
    let cloud = recorded(&CALLS);
    let text = cloud.ferrostore(["log", "--image", "2"]).well().text;
    assert_eq!(
        text,
        "2026-11-28 17:08:02  cp           failure       3.000 s  image 2  datastore 101  1 MiB read  \
         0.5 s waiting for locks\n    cp: IMAGE/PATH is not there\n"
    );
    let json = cloud.ferrostore(["log", "--json", "--image", "2"]).well();
    assert_eq!(json.text, line("cp", "failure", 2, 101, 3.0), "as it was recorded");
}

#[test]
fn the_rotated_file_is_that_of_the_record_and_drivers_make_the_next() {
    let snippet = repository().join("packaging/logrotate/ferrostore");
    let text = fs::read_to_string(snippet).unwrap();
    assert!(text.contains("\n/var/log/one/ferrostore.jsonl {\n"), "{text}");
    assert!(
        text.contains("    nocreate\n") && text.contains("    su oneadmin oneadmin\n"),
        "{text}"
    );
}

#[test]
fn the_file_that_the_record_was_rotated_to_counts_too() {
    let cloud = recorded(&CALLS[2..]);
    let rotated = cloud.call_log().with_extension("jsonl.1");
    fs::write(&rotated, line("cp", "success", 8, 100, 1.0)).unwrap();
    assert_eq!(images(&cloud, ""), [8, 2, 3]);
    let file = rotated.to_str().unwrap();
    assert_eq!(images(&cloud, &format!("--file {file}")), [8]);
    let text = cloud.ferrostore(["metrics"]).well().text;
    let labels = "one_datastore_id=\"100\",action=\"cp\"";
    assert!(text.contains(&format!("ferrostore_last_success_timestamp_seconds{{{labels}}} 17958")));
    assert!(!text.contains(&format!("ferrostore_calls_total{{{labels}")), "counted once: {text}");
}

#[test]
fn no_call_at_all_is_no_error() {
    let cloud = Cloud::new();
    assert_eq!(cloud.ferrostore(["log"]).well().text, "");
    let text = cloud.ferrostore(["metrics"]).well().text;
    assert!(text.lines().all(|line| line.starts_with("# ")), "{text}");
}

#[test]
fn lines_that_are_no_record_are_passed_over() {
    let cloud = recorded(&CALLS);
    let mut text = fs::read(cloud.call_log()).unwrap();
    text.extend(b"\xff\xfe nonsense\n{\"time\":\"cut off by a full di");
    text.extend(line("cp", "success", 5, 100, 1.0).bytes());
    text.extend(vec![b'x'; 1 << 20]);
    text.push(b'\n');
    fs::write(cloud.call_log(), text).unwrap();
    assert_eq!(images(&cloud, ""), [1, 1, 2, 3, 5]);
}

#[test]
fn metrics_have_the_labels_of_opennebulas_exporter_and_replace_their_file_in_one_step() {
    let cloud = recorded(&CALLS);
    let text = cloud.ferrostore(["metrics"]).well().text;
    for line in [
        "ferrostore_calls_total{one_datastore_id=\"100\",action=\"cp\",result=\"success\"} 1",
        "ferrostore_calls_total{one_datastore_id=\"101\",action=\"cp\",result=\"cancelled\"} 1",
        "ferrostore_call_seconds_total{one_datastore_id=\"100\",action=\"cp\",result=\"success\"} 65.25",
        "ferrostore_lock_wait_seconds_total{one_datastore_id=\"101\",action=\"cp\",result=\"failure\"} 0.5",
        "ferrostore_bytes_total{one_datastore_id=\"101\",action=\"cp\",result=\"failure\",direction=\"read\"} 1048576",
        "ferrostore_last_failure_timestamp_seconds{one_datastore_id=\"101\",action=\"cp\"} 1795885682.000",
        "# TYPE ferrostore_calls_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} should be in\n{text}");
    }
    let file = cloud.root().join("ferrostore.prom");
    fs::write(&file, "old").unwrap();
    let before = file.metadata().unwrap().ino();
    let said =
        cloud.ferrostore(["metrics".as_ref(), "--textfile".as_ref(), file.as_os_str()]).well();
    assert_eq!(said.text, "");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o644);
    assert_ne!(metadata.ino(), before, "replaced, not overwritten");
    let left = fs::read_dir(cloud.root()).unwrap().flatten();
    let left: Vec<_> = left.filter(|e| e.file_name().to_string_lossy().contains("prom")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    cloud.ferrostore(["metrics", "--textfile", "/no/such/x.prom"]).refusing("/no/such/x.prom");
}

#[test]
fn what_the_drivers_record_is_what_the_command_reads() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud.cp(&disk).run().succeeds();
    cloud.cp("/etc/passwd").run().fails().saying("restricted directory");
    let text = cloud.ferrostore(["log"]).well().text;
    assert_eq!(text.lines().count(), 3, "two calls and an error: {text}");
    assert!(text.contains("/etc/passwd"), "{text}");
    let metrics = cloud.ferrostore(["metrics"]).well().text;
    let labels = "one_datastore_id=\"104\",action=\"cp\",result";
    for result in ["success", "failure"] {
        let line = format!("ferrostore_calls_total{{{labels}=\"{result}\"}} 1");
        assert!(metrics.contains(&line), "{line} should be in\n{metrics}");
    }
}

#[test]
fn the_sample_alert_rules_speak_of_metrics_that_there_are() {
    let rules =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus/ferrostore-rules.yml");
    let rules = fs::read_to_string(rules).unwrap();
    let cloud = recorded(&CALLS);
    let metrics = cloud.ferrostore(["metrics"]).well().text;
    let names = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: Vec<&str> = names.filter(|name| name.starts_with("ferrostore_")).collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} should be in\n{metrics}");
    }
    assert_eq!(rules.matches("- alert: ").count(), 4);
}
