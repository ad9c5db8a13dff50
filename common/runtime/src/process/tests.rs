//! Tests of children, clean-up and signals.

#![allow(clippy::unwrap_used)]
use super::*;
use std::sync::mpsc;

#[test]
fn a_lock_that_is_slow_to_take_or_release_keeps_no_one_from_the_state() {
    let (sender, receiver) = mpsc::channel::<()>();
    let (begun, waits) = mpsc::channel();
    let slow = std::thread::spawn(move || {
        register_lock(|| -> io::Result<Option<(PathBuf, FileLock, ())>> {
            begun.send(()).unwrap();
            // As on a server that does not answer.
            let _ = receiver.recv();
            Ok(None)
        })
    });
    waits.recv().unwrap();
    let (done, state_is_free) = mpsc::channel();
    std::thread::spawn(move || {
        assert!(state().steps > 0);
        done.send(()).unwrap();
    });
    assert_eq!(state_is_free.recv_timeout(Duration::from_secs(30)), Ok(()));
    drop(sender);
    assert!(slow.join().unwrap().unwrap().is_none());
}

#[test]
fn a_child_that_was_waited_for_is_not_killed() {
    let mut child = spawn(Command::new("/bin/sleep").arg("1000")).unwrap();
    assert_eq!(try_wait(&mut child).unwrap(), None);
    assert!(kill_child(child.id()));
    // Dead and not reaped: its id is still its own.
    assert!(has_ended(&child, WaitPidFlag::empty()).unwrap());
    assert!(kill_child(child.id()));
    assert!(!wait(&mut child).unwrap().success());
    assert!(!kill_child(child.id()));
    assert!(wait(&mut child).is_ok() && try_wait(&mut child).unwrap().is_some());
}

#[test]
fn all_that_a_child_prints_is_read() {
    use std::process::Stdio;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "head -c 300000 /dev/zero >&2; head -c 200000 /dev/zero; exit 3"]);
    let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
    let output = wait_with_output(child).unwrap();
    let lengths = (output.stdout.len(), output.stderr.len());
    assert_eq!((output.status.code(), lengths), (Some(3), (200_000, 300_000)));
}
