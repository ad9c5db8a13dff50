//! Whatever qcow2 our writer makes, three independent readers find the same disk in it.

mod readers;

use ferrostore_tests::layouts::{Chain, Layout, Level};
use ferrostore_tests::random::{self, Disk, Extent};
use ferrostore_tests::{Cloud, KIB, MIB, qemu_img_check, same_content, virtual_size};
use proptest::prelude::*;
use readers::{imago_reads, qcow2_rs_reads};
use std::fs;
use std::path::Path;

/// A raw disk, up to 5 MiB of any length, with data, zeros and holes of any alignment.
fn disks() -> impl Strategy<Value = Disk> {
    let length = prop_oneof![
        1..=5 * MIB,
        (1..=10 * 1024_u64).prop_map(|sectors| sectors * 512),
        (1..=80_u64).prop_map(|clusters| clusters * 64 * KIB),
    ];
    let extents = prop::collection::vec(
        (any::<u32>(), 1..700 * KIB, any::<u8>()).prop_map(|(start, length, kind)| Extent {
            start: u64::from(start),
            length,
            kind,
        }),
        0..12,
    );
    (length, extents).prop_map(|(length, extents)| Disk { length, extents })
}

#[track_caller]
fn all_read(image: &Path, raw: &Path) {
    qemu_img_check(image);
    same_content(image, "qcow2", raw, "raw");
    let bytes = fs::read(raw).unwrap();
    let rounded = (bytes.len() as u64).next_multiple_of(512);
    assert_eq!(virtual_size(image, "qcow2"), rounded);
    imago_reads(image, &bytes);
    qcow2_rs_reads(image, &bytes);
}

#[test]
fn cp_of_a_raw_disk_into_qcow2() {
    let cloud = Cloud::new();
    random::for_all(32, disks(), |disk| {
        let raw = disk.write(&cloud.images().join("disk.img"));
        let reply = cloud.cp(&raw).driver("qcow2").run().succeeds();
        let image = reply.image("qcow2");
        all_read(&image, &raw);
        fs::remove_file(image).unwrap();
    });
}

/// A stream has no holes to ask for and can't be cloned: another way through the writer.
#[test]
fn cp_of_a_compressed_raw_disk_into_qcow2() {
    let cloud = Cloud::new();
    random::for_all(16, disks(), |disk| {
        let raw = disk.write(&cloud.images().join("disk.img"));
        let compressed = cloud.compressed(&raw, "gzip");
        let reply = cloud.cp(&compressed).driver("qcow2").run().succeeds();
        let image = reply.image("qcow2");
        all_read(&image, &raw);
        fs::remove_file(image).unwrap();
    });
}

#[test]
fn clone_of_a_raw_image_into_qcow2_and_back() {
    let cloud = Cloud::new();
    random::for_all(16, disks(), |disk| {
        let raw = disk.write(&cloud.images().join("disk.img"));
        let source = cloud.stored(1, &raw);
        let call = cloud.clone_of(&source, "raw").driver("qcow2");
        let image = call.run().succeeds().image("qcow2");
        all_read(&image, &raw);
        let call = cloud.clone_of(&image, "qcow2").driver("raw");
        let back = call.run().succeeds().image("raw");
        same_content(&back, "raw", &raw, "raw");
        fs::remove_file(image).unwrap();
        fs::remove_file(back).unwrap();
    });
}

#[test]
fn mkfs_of_an_empty_qcow2() {
    let cloud = Cloud::new();
    let sizes = prop_oneof![1..40_u64, Just(4096), Just(1 << 20)];
    random::for_all(12, sizes, |mib| {
        let image = cloud.mkfs("qcow2", &mib.to_string()).run().succeeds();
        let image = image.empty_image();
        qemu_img_check(&image);
        assert_eq!(virtual_size(&image, "qcow2"), mib * MIB);
        let empty = cloud.outside().join("empty");
        fs::File::create(&empty).unwrap().set_len(mib * MIB).unwrap();
        same_content(&image, "qcow2", &empty, "raw");
        if mib < 40 {
            let zeros = vec![0; usize::try_from(mib * MIB).unwrap()];
            imago_reads(&image, &zeros);
            qcow2_rs_reads(&image, &zeros);
        }
        fs::remove_file(image).unwrap();
    });
}

/// The header of an overlay, its backing name and its empty tables.
#[test]
fn snap_revert_to_any_snapshot() {
    let reverts = (
        prop_oneof![
            Just(Layout::ABSOLUTE),
            Just(Layout::RELATIVE),
            Just(Layout::SSH_SYSTEM),
            Just(Layout::LOCAL)
        ],
        64..=10 * 1024_u64,
        1..4_u32,
        any::<u32>(),
    );
    random::for_all(16, reverts, |(layout, sectors, snapshots, target)| {
        let cloud = Cloud::new();
        let level = Level::of(sectors * 512);
        let mut chain = Chain::on(&cloud, layout, level);
        for number in 1..=snapshots {
            chain.overlay(number, number - 1, level);
        }
        let target = target % snapshots;
        chain.call("snap_revert", target).run().succeeds();
        let live = chain.file(snapshots);
        qemu_img_check(&live);
        chain.check_content(&live, target);
        let bytes = fs::read(chain.reference(target)).unwrap();
        imago_reads(&live, &bytes);
        if chain.backing_of(snapshots).starts_with('/') {
            qcow2_rs_reads(&live, &bytes);
        }
    });
}

/// The readers are worth asking: on a file of qemu they agree, and one wrong byte is noticed.
#[test]
fn the_readers_read_what_qemu_wrote() {
    let cloud = Cloud::new();
    let raw = cloud.raw("disk.img", 3 * MIB + 512);
    let image = cloud.qcow2(&raw, "disk.qcow2", "");
    let mut bytes = fs::read(&raw).unwrap();
    imago_reads(&image, &bytes);
    qcow2_rs_reads(&image, &bytes);
    bytes[2_000_000] ^= 1;
    for reads in [imago_reads, qcow2_rs_reads] {
        let noticed = std::panic::catch_unwind(|| reads(&image, &bytes));
        assert!(noticed.is_err(), "one wrong byte is noticed");
    }
}
