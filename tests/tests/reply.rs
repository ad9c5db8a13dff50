//! The reply reaches oned's manager, whose readers may be late and are stopped soon after the driver has ended.

use ferrostore_tests::{Call, Cloud, MIB};
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// So long after the end of the driver the manager stops its readers.
const GRACE: Duration = Duration::from_millis(100);

/// What a reader has read to its end, once it has waited for `late`.
fn reader(mut pipe: impl Read + Send + 'static, late: Duration) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        std::thread::sleep(late);
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    receiver
}

/// Makes a call as the manager does; both outputs, where they were read in time, and how long it took.
fn as_manager(call: &Call, late: Duration) -> ([Option<String>; 2], Duration) {
    let start = Instant::now();
    let (mut child, input) = call.start();
    let outputs =
        [reader(child.stdout.take().unwrap(), late), reader(child.stderr.take().unwrap(), late)];
    child.stdin.take().unwrap().write_all(&input.unwrap()).unwrap();
    child.wait().unwrap();
    let took = start.elapsed();
    let stop = Instant::now() + GRACE;
    let read = |output: Receiver<String>| {
        output.recv_timeout(stop.saturating_duration_since(Instant::now())).ok()
    };
    (outputs.map(read), took)
}

#[test]
fn a_manager_that_is_late_gets_the_reply() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let late = Duration::from_millis(500);
    let ([reply, _], _) = as_manager(&cloud.stat(&disk), late);
    assert_eq!(reply.as_deref(), Some("3\n"));
    let ([reply, _], _) = as_manager(&cloud.monitor(), late);
    assert!(reply.is_some_and(|reply| reply.contains("FREE_MB=")));
    let ([reply, _], _) = as_manager(&cloud.cp(&disk), late);
    assert!(reply.is_some_and(|reply| reply.ends_with(" raw\n")));
}

#[test]
fn a_manager_that_is_late_gets_the_reason_of_a_failure() {
    let cloud = Cloud::new();
    let ([reply, reason], _) = as_manager(&cloud.cp("/etc/passwd"), Duration::from_millis(500));
    assert_eq!(reply.as_deref(), Some(""));
    assert!(reason.is_some_and(|reason| reason.contains("IMAGE/PATH")));
}

#[test]
fn a_manager_that_never_reads_is_not_waited_for_longer_than_2_seconds() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let (_, took) = as_manager(&cloud.stat(&disk), Duration::from_secs(30));
    assert!((2.0..20.0).contains(&took.as_secs_f64()), "{took:?}");
}

#[test]
fn a_manager_that_is_gone_is_not_waited_for() {
    let cloud = Cloud::new();
    let took = || {
        let start = Instant::now();
        let (mut child, input) = cloud.cp("/etc/passwd").start();
        drop(child.stderr.take());
        child.stdin.take().unwrap().write_all(&input.unwrap()).unwrap();
        child.wait().unwrap();
        start.elapsed()
    };
    // On a busy machine some calls take long by themselves.
    let times: Vec<_> = (0..5).map(|_| took()).collect();
    assert!(times.iter().any(|time| *time < Duration::from_millis(1500)), "{times:?}");
}
