//! Whatever qcow2 qemu makes, ours reads the same disk from it.

use ferrostore_tests::layouts::{Chain, Layout};
use ferrostore_tests::random::{self, Kind, Shape, Write};
use ferrostore_tests::{Cloud, KIB, pattern, qemu_img_check, same_content, virtual_size};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of up to 5 MiB, of any cluster size, version and kind of content.
fn shapes() -> impl Strategy<Value = Shape> {
    let sectors = prop_oneof![1..=10 * 1024_u64, (1..=80_u64).prop_map(|clusters| clusters * 128)];
    (
        9..=21_u32,
        sectors,
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop::bool::weighted(0.3),
        0..=6_u32,
        prop::collection::vec(writes(), 0..14),
    )
        .prop_map(|(cluster_bits, sectors, v3, zstd, extended_l2, refcount_order, writes)| {
            Shape { cluster_bits, sectors, v3, zstd, extended_l2, refcount_order, writes }
        })
}

fn writes() -> impl Strategy<Value = Write> {
    let kind = prop_oneof![
        3 => Just(Kind::Fill),
        2 => Just(Kind::Noise),
        3 => Just(Kind::Compress),
        2 => Just(Kind::CompressNoise),
        2 => Just(Kind::Zero),
        1 => Just(Kind::ZeroAndFree),
        2 => Just(Kind::Discard),
    ];
    let sectors = prop_oneof![1..16_u64, 1..1500_u64];
    (kind, any::<u32>(), sectors, 1..=255_u8).prop_map(|(kind, start, sectors, byte)| Write {
        kind,
        start: u64::from(start),
        sectors,
        byte,
    })
}

/// A file whose bytes don't compress much: 700 bytes of noise and 300 of zeros in turn.
fn noise(cloud: &Cloud) -> PathBuf {
    let mut bytes = Vec::new();
    for seed in 0..300 {
        bytes.extend(pattern(seed, 700));
        bytes.resize(bytes.len() + 300, 0);
    }
    let path = cloud.root().join("noise");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn cp_of_a_qcow2_into_raw() {
    let cloud = Cloud::new();
    let noise = noise(&cloud);
    random::for_all(48, shapes(), |shape| {
        let file = cloud.images().join("disk.qcow2");
        shape.make(&file, None, &noise);
        let image = cloud.cp(&file).driver("raw").run().succeeds().image("raw");
        same_content(&file, "qcow2", &image, "raw");
        assert_eq!(fs::metadata(&image).unwrap().len(), shape.size());
        fs::remove_file(image).unwrap();
    });
}

/// From a stream, the file is staged first.
#[test]
fn cp_of_a_compressed_qcow2_into_raw() {
    let cloud = Cloud::new();
    let noise = noise(&cloud);
    random::for_all(12, shapes(), |shape| {
        let file = cloud.images().join("disk.qcow2");
        shape.make(&file, None, &noise);
        let compressed = cloud.compressed(&file, "gzip");
        let call = cloud.cp(&compressed).driver("raw");
        let image = call.run().succeeds().image("raw");
        same_content(&file, "qcow2", &image, "raw");
        fs::remove_file(image).unwrap();
    });
}

#[test]
fn stat_and_cp_of_a_qcow2_as_it_is() {
    let cloud = Cloud::new();
    let noise = noise(&cloud);
    random::for_all(12, shapes(), |shape| {
        let file = cloud.images().join("disk.qcow2");
        shape.make(&file, None, &noise);
        let mib = shape.size().div_ceil(1024 * KIB).to_string();
        cloud.stat(&file).run().succeeds().replies(&mib);
        let image = cloud.cp(&file).run().succeeds().image("qcow2");
        same_content(&file, "qcow2", &image, "qcow2");
        fs::remove_file(image).unwrap();
    });
}

/// One to four snapshots and the live disk, of unequal size and shape.
fn chains() -> impl Strategy<Value = (Layout, Vec<Shape>, u32)> {
    let layouts = prop_oneof![
        Just(Layout::ABSOLUTE),
        Just(Layout::RELATIVE),
        Just(Layout::MOVABLE),
        Just(Layout::SSH_SYSTEM),
        Just(Layout::LOCAL),
        Just(Layout::LOCAL_IN_PLACE),
    ];
    let files = prop::collection::vec(shapes(), 2..=5);
    (layouts, files, any::<u32>())
}

fn chain<'a>(cloud: &'a Cloud, layout: Layout, shapes: &[Shape], noise: &Path) -> Chain<'a> {
    let mut chain = Chain::filled(cloud, layout, |file| {
        shapes[0].make(file, None, noise);
    });
    for (number, shape) in (1..).zip(&shapes[1..]) {
        let backing = chain.backing_name(number - 1);
        chain.overlay_filled(number, |file| {
            shape.make(file, Some(&backing), noise);
        });
    }
    chain
}

#[test]
fn snap_flatten_of_a_chain() {
    random::for_all(40, chains(), |(layout, shapes, target)| {
        let cloud = Cloud::new();
        let noise = noise(&cloud);
        let chain = chain(&cloud, layout, &shapes, &noise);
        let target = target % (shapes.len() as u32 - 1);
        chain.call("snap_flatten", target).run().succeeds();
        qemu_img_check(chain.source());
        chain.check_content(chain.source(), target);
        let size = shapes[target as usize].size();
        assert_eq!(virtual_size(chain.source(), "qcow2"), size);
        assert!(!chain.directory().exists());
    });
}

/// What the virtual machine sees is the image: the live disk, wherever it lies.
#[test]
fn clone_of_a_chain() {
    random::for_all(24, chains(), |(layout, shapes, format)| {
        let cloud = Cloud::new();
        let noise = noise(&cloud);
        let chain = chain(&cloud, layout, &shapes, &noise);
        let top = shapes.len() as u32 - 1;
        let call = cloud.clone_of(chain.source(), "qcow2");
        let (call, format) = match format % 3 {
            0 => (call, "qcow2"),
            1 => (call.driver("qcow2"), "qcow2"),
            _ => (call.driver("raw"), "raw"),
        };
        let image = call.run().succeeds().image(format);
        same_content(&image, format, chain.reference(top), "raw");
        assert_eq!(virtual_size(&image, format), shapes[top as usize].size());
        if format == "qcow2" {
            qemu_img_check(&image);
        }
    });
}
