//! `cp`: xz files of several blocks and several streams.

use ferrostore_tests::{Cloud, KIB, MIB, Rule, pattern, run, same_bytes};
use std::fs;
use std::path::{Path, PathBuf};

/// `disk` compressed by `xz`.
fn packed(cloud: &Cloud, name: &str, options: &[&str], disk: &Path) -> PathBuf {
    let arguments = [&["-c", "-k"], options, &[disk.to_str().unwrap()]].concat();
    cloud.file(name, run("xz", &arguments).stdout)
}

/// Blocks that tell their length, as threads make them.
const BLOCKS: [&str; 3] = ["-T2", "-1", "--block-size=256KiB"];

#[test]
fn blocks_are_joined_in_their_order() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 12 * MIB + 512);
    for options in [
        &["-T2", "-6", "--block-size=1MiB"][..],
        // More blocks than are held at once.
        &["-T2", "-0", "--block-size=64KiB"],
        &["-T2", "-1", "--block-size=4MiB", "--check=sha256"],
        &["-T2", "-1", "--block-size=1MiB", "--check=none"],
        &["-T2", "--x86", "--lzma2=dict=1MiB", "--block-size=1MiB"],
        // Dictionaries of which only one at a time may be in memory.
        &["-T2", "--lzma2=preset=1,dict=64MiB", "--block-size=4MiB"],
        // Blocks that don't tell their length.
        &["-T1", "-1", "--block-size=1MiB"],
    ] {
        println!("{options:?}");
        let file = packed(&cloud, "disk.xz", options, &disk);
        let copy = cloud.cp(&file).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn streams_of_every_kind_are_joined() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let blocks = fs::read(packed(&cloud, "blocks.xz", &BLOCKS, &disk)).unwrap();
    let single = fs::read(packed(&cloud, "single.xz", &["-T1", "-1"], &disk)).unwrap();
    let nothing = fs::read(packed(&cloud, "nothing.xz", &[], &cloud.file("nothing", ""))).unwrap();
    let large = ["-T2", "--lzma2=preset=0,dict=32MiB", "--block-size=1MiB"];
    let large = fs::read(packed(&cloud, "large.xz", &large, &disk)).unwrap();
    let padding = vec![0; 8];
    let parts =
        [&blocks, &single, &padding, &blocks, &nothing, &large, &blocks, &nothing, &padding];
    let file = cloud.file("joined.xz", parts.map(Vec::as_slice).concat());
    let whole = cloud.file("whole.img", fs::read(&disk).unwrap().repeat(5));
    let copy = cloud.cp(&file).run().succeeds().image("raw");
    same_bytes(&whole, copy);
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(1, MIB as usize));
    let file = packed(&cloud, "disk.xz", &BLOCKS, &disk);
    let whole = fs::read(&file).unwrap();
    // Headers, data and checks of all blocks; then all of the index and the footer.
    let middle = (0..whole.len()).step_by(whole.len() / 40);
    for at in middle.chain(whole.len() - 48..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        println!("byte {at} of {}", whole.len());
        let call = cloud.cp(&file);
        // Without its magic number it is some file.
        if at >= 6 {
            call.run()
                .refused_by_any(&[Rule::DamagedData, Rule::WindowTooLarge])
                .naming("IMAGE/PATH");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(2, MIB as usize));
    let file = packed(&cloud, "disk.xz", &BLOCKS, &disk);
    let whole = fs::read(&file).unwrap();
    for length in (12..whole.len()).step_by(whole.len() / 30).chain([whole.len() - 1]) {
        fs::write(&file, &whole[..length]).unwrap();
        println!("{length} of {} bytes", whole.len());
        cloud.cp(&file).driver("qcow2").run().fails().naming("IMAGE/PATH").saying("cut off");
    }
}

#[test]
fn an_index_of_other_blocks_is_noticed() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(3, MIB as usize));
    let other = cloud.file("other.img", pattern(4, 5 * MIB as usize / 4));
    let file = packed(&cloud, "disk.xz", &BLOCKS, &disk);
    let [own, foreign] = [file.clone(), packed(&cloud, "other.xz", &BLOCKS, &other)]
        .map(|path| fs::read(path).unwrap());
    let index = |bytes: &[u8]| {
        let end = bytes.len() - 12;
        let backward = u32::from_le_bytes(bytes[end + 4..end + 8].try_into().unwrap());
        end - (backward as usize + 1) * 4
    };
    let blocks = &own[..index(&own)];
    let mixed = [blocks, &foreign[index(&foreign)..]].concat();
    fs::write(&file, mixed).unwrap();
    cloud.cp(&file).run().fails().naming("IMAGE/PATH").saying("xz data is damaged");
}

#[test]
fn blocks_of_the_usual_size_are_decoded_within_160_mib() {
    let cloud = Cloud::new();
    // Noise: the blocks are as large as they get.
    let disk = cloud.file("disk.img", pattern(5, 150 * MIB as usize));
    let file = packed(
        &cloud,
        "disk.xz",
        &["-T2", "--lzma2=preset=0,dict=8MiB", "--block-size=24MiB"],
        &disk,
    );
    let report = cloud.root().join("report");
    let time = ["/usr/bin/env", "python3", "-c", MEASURE, report.to_str().unwrap()];
    let copy = cloud.cp(&file).driver("raw").under(time).run().succeeds().image("raw");
    same_bytes(&disk, copy);
    let peak: u64 = fs::read_to_string(&report).unwrap().trim().parse().unwrap();
    assert!(peak * KIB <= 160 * MIB, "{peak} KiB were resident");
}

/// Runs a command and writes its peak of resident memory in KiB to a file.
const MEASURE: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)";
