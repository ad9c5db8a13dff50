//! Images that are deleted in oned while a driver is at work on them.

use ferrostore_tests::{Call, Ceph, MIB, Oned, Page, Web};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `call`, whose image 5 is deleted after so long: it ends soon, and says why.
#[track_caller]
fn deleting_after(delay: Duration, ceph: &Ceph, oned: &Oned, call: Call) {
    let start = Instant::now();
    let call = oned.known_to(call);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(delay);
            oned.delete_image(5);
        });
        call.run()
    });
    let took = start.elapsed();
    outcome.fails().saying("image 5 no longer exists").saying("nothing was changed");
    assert!(took < delay + Duration::from_secs(20), "{took:?}");
    ceph.comes_to_rest();
}

fn oned() -> Oned {
    Oned::listing(&[])
}

#[test]
fn an_image_that_is_deleted_during_its_download_leaves_nothing() {
    let (ceph, web) = (Ceph::new(), Web::new());
    let disk = ceph.cloud.raw("disk.img", 40 * MIB);
    let url = web.page("disk.img", Page::of(&disk).at_rate(MIB));
    deleting_after(Duration::from_secs(3), &ceph, &oned(), ceph.cp(5, &url));
    assert_eq!(ceph.names(), [""; 0]);
}

/// `call`, whose second program takes its time.
fn slow<'c>(ceph: &Ceph, call: Call<'c>) -> Call<'c> {
    ceph.with_rbd(call, "[ $number != 2 ] || sleep 3")
}

#[test]
fn what_takes_over_two_seconds_asks_oned_before_it_commits() {
    let ceph = Ceph::new();
    ceph.image("one-1", "mine");
    let file = ceph.cloud.raw("disk.img", MIB);
    for call in [ceph.cp(5, &file), ceph.mkfs(5, "raw", 4), ceph.clone_of(5, &ceph.spec("one-1"))] {
        deleting_after(Duration::ZERO, &ceph, &oned(), slow(&ceph, call));
        assert_eq!(ceph.names(), ["one-1"]);
    }
    // For one that is still there it is asked once.
    let oned = oned();
    let call = slow(&ceph, ceph.mkfs(5, "raw", 4));
    oned.known_to(call).run().succeeds();
    assert_eq!(oned.methods(), ["one.image.info"]);
}

#[test]
fn a_flattened_image_that_was_deleted_keeps_its_old_state() {
    let ceph = Ceph::with_snapshot();
    let call = slow(&ceph, ceph.snap("snap_flatten", 5, 0));
    deleting_after(Duration::ZERO, &ceph, &oned(), call);
    assert_eq!(
        (ceph.layout(), ceph.head("one-5")),
        (vec!["one-5 [0*]".to_owned()], "head".to_owned())
    );
}
