//! The stream of differences that a driver sends, held against what `rbd export-diff` makes of the same disk.

use ferrostore_tests::{Ceph, MIB, pattern};
use std::fs;

/// A stream of differences, read by its description (doc/dev/rbd-diff.rst of Ceph) and by nothing of the drivers.
#[derive(Debug)]
struct Stream {
    /// The last size that it tells.
    size: Option<u64>,
    /// Offset and length of each record of data.
    records: Vec<(u64, u64)>,
    disk: Vec<u8>,
}

fn read(bytes: &[u8], length: usize) -> Stream {
    let mut rest = bytes.strip_prefix(b"rbd diff v1\n").expect("the first line");
    let mut stream = Stream { size: None, records: Vec::new(), disk: vec![0; length] };
    let mut taken = |count: usize| {
        let (now, later) = rest.split_at(count);
        rest = later;
        now
    };
    loop {
        let tag = taken(1)[0];
        if tag == b'e' {
            break;
        }
        let mut number = || u64::from_le_bytes(taken(8).try_into().unwrap());
        match tag {
            b's' => stream.size = Some(number()),
            b'w' => {
                let (offset, count) = (number(), number());
                let start = offset as usize;
                stream.disk[start..start + count as usize].copy_from_slice(taken(count as usize));
                stream.records.push((offset, count));
            }
            b'z' => drop((number(), number())),
            other => panic!("a record {:?}", char::from(other)),
        }
    }
    assert!(rest.is_empty(), "{} bytes follow the end", rest.len());
    stream
}

#[test]
fn it_is_what_rbd_itself_exports() {
    let ceph = Ceph::new();
    let mut bytes = vec![0; 22 * MIB as usize + 512];
    for (start, length) in [(0, 512), (4 * MIB - 4096, 8192), (9 * MIB, 6 * MIB), (22 * MIB, 512)] {
        let data = pattern(start, length as usize);
        bytes[start as usize..(start + length) as usize].copy_from_slice(&data);
    }
    let raw = ceph.cloud.file("disk.img", &bytes);
    let qcow2 = ceph.cloud.compressed_qcow2(&raw, "disk.qcow2", "");
    let packed = ceph.cloud.compressed(&raw, "gzip");
    ceph.rbd(["import", "--no-progress", raw.to_str().unwrap(), &ceph.spec("theirs")]);
    let exported = |name: &str| {
        let file = ceph.cloud.root().join("exported");
        let name = ceph.spec(name);
        ceph.rbd(["export-diff", "--no-progress", &name, file.to_str().unwrap()]);
        let stream = read(&fs::read(&file).unwrap(), bytes.len());
        fs::remove_file(file).unwrap();
        stream
    };
    let theirs = exported("theirs");
    assert!(theirs.disk == bytes);
    let seen = ceph.cloud.root().join("seen");
    let words = format!(
        "case \" $* \" in *' import-diff '*) tee '{}' | \"$real\" \"$@\"; exit $?;; esac",
        seen.display()
    );
    for (id, file) in (5..).zip([&raw, &qcow2, &packed]) {
        ceph.with_rbd(ceph.cp(id, file), &words).run().succeeds();
        let ours = read(&fs::read(&seen).unwrap(), bytes.len());
        assert!(ours.disk == bytes, "{}", file.display());
        assert!(ours.size.is_none_or(|size| Some(size) == theirs.size), "{:?}", ours.size);
        for (offset, length) in ours.records {
            let object = 4 * MIB;
            assert_eq!(offset / object, (offset + length - 1) / object, "{offset} {length}");
        }
        let stored = exported(&format!("one-{id}"));
        assert_eq!(stored.size, theirs.size);
        assert!(stored.disk == bytes);
        let amount = |stream: &Stream| stream.records.iter().map(|(_, count)| count).sum::<u64>();
        assert!(amount(&stored) <= amount(&theirs) + 64 * 1024, "{}", file.display());
    }
}

#[test]
fn a_stream_without_its_end_is_no_image() {
    // What a driver that dies leaves behind is never taken for a whole image.
    let ceph = Ceph::new();
    let file = ceph.cloud.file("disk.img", pattern(1, 6 * MIB as usize));
    let words =
        "case \" $* \" in *' import-diff '*) head -c 2000000 | \"$real\" \"$@\"; exit $?;; esac";
    let failure = ceph.with_rbd(ceph.cp(5, &file), words).run().fails();
    failure.naming("DATASTORE/TEMPLATE/POOL_NAME").saying("import-diff");
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}
