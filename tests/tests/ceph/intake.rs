//! What any datastore reads of a source holds for this kind too: digests, limits, archives, servers.

use ferrostore_tests::{
    Authority, Ceph, DIGESTS, MIB, Page, Rule, Web, digest, pattern, wrong_digest,
};
use std::fs;

#[test]
fn every_digest_is_checked_before_the_image_has_its_name() {
    let ceph = Ceph::new();
    let disk = ceph.cloud.raw("disk.img", 2 * MIB);
    let packed = ceph.cloud.compressed(&disk, "gzip");
    for (attribute, program) in DIGESTS {
        let attribute = format!("IMAGE/TEMPLATE/{attribute}");
        for file in [&disk, &packed] {
            let right = digest(program, file);
            ceph.cp(5, file).set(&attribute, &right).run().succeeds();
            assert!(ceph.content("one-5") == fs::read(&disk).unwrap());
            ceph.on_image("rm", 5).run().succeeds();
            let call = ceph.cp(5, file).set(&attribute, wrong_digest(&right));
            call.run().refused(Rule::DigestMismatch).naming(&attribute);
            assert_eq!(ceph.names(), [""; 0]);
        }
    }
    ceph.is_at_rest();
}

#[test]
fn no_disk_is_larger_than_the_administrator_allows() {
    let ceph = Ceph::new();
    ceph.cloud.datastore_conf("SUPPORTED_FS=\"ext4\"\nMAX_VIRTUAL_SIZE=\"4M\"\n");
    let web = Web::new();
    for (size, fits) in [(4 * MIB, true), (4 * MIB + 512, false)] {
        let disk = ceph.cloud.raw("disk.img", size);
        let qcow2 = ceph.cloud.qcow2(&disk, "disk.qcow2", "");
        let packed = ceph.cloud.compressed(&disk, "zstd");
        let chunked = web.page("disk", Page::of(&disk).chunked());
        for path in
            [disk.to_str().unwrap(), qcow2.to_str().unwrap(), packed.to_str().unwrap(), &chunked]
        {
            let outcome = ceph.cp(5, path).set_escaped("IMAGE/SIZE", "").run();
            if fits {
                outcome.succeeds();
                ceph.on_image("rm", 5).run().succeeds();
            } else {
                outcome
                    .refused_by_any(&[Rule::VirtualSizeLimit, Rule::LargerThanAllowed])
                    .naming("IMAGE/PATH")
                    .saying("MAX_VIRTUAL_SIZE");
                assert_eq!(ceph.names(), [""; 0], "{path}");
            }
        }
    }
    ceph.mkfs(5, "raw", 5).run().refused(Rule::VirtualSizeLimit).naming("IMAGE/SIZE");
    ceph.is_at_rest();
}

#[test]
fn the_disk_in_an_archive_is_the_image() {
    let ceph = Ceph::new();
    let web = Web::new();
    let disk = ceph.cloud.raw("plain.img", 3 * MIB);
    let readme = ceph.cloud.file("text", "about this disk\n");
    let qcow2 = ceph.cloud.qcow2(&disk, "plain.qcow2", "");
    let members = [("README", &readme), ("disk.raw", &disk)];
    let tar = ceph.cloud.tar("disk.tar", &[], &members);
    let files = [
        ceph.cloud.compressed(&tar, "xz"),
        ceph.cloud.zip("disk.zip", "DEFLATED", false, &[("README", &readme), ("d.qcow2", &qcow2)]),
        tar,
    ];
    for file in &files {
        for path in [file.to_str().unwrap().to_owned(), web.serve(file)] {
            ceph.cp(5, &path).run().succeeds();
            assert!(ceph.content("one-5") == fs::read(&disk).unwrap(), "{path}");
            ceph.on_image("rm", 5).run().succeeds();
        }
    }
    ceph.is_at_rest();
}

#[test]
fn a_server_must_be_trusted_and_paths_admitted() {
    let ceph = Ceph::new();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let web = Web::secure(authority.good());
    let disk = ceph.cloud.raw("disk.img", 2 * MIB);
    let url = web.serve(&disk);
    let call =
        |authority: &Authority| ceph.cp(5, &url).environment("SSL_CERT_FILE", authority.file());
    call(&stranger).run().fails().for_any_reason().naming("IMAGE/PATH");
    ceph.cp(5, "/etc/passwd").run().refused(Rule::Restricted).naming("IMAGE/PATH");
    assert_eq!(ceph.names(), [""; 0]);
    call(&authority).run().succeeds();
    assert!(ceph.content("one-5") == fs::read(&disk).unwrap());
}

#[test]
fn attributes_of_file_datastores_that_stock_does_not_read_here_change_no_format() {
    let ceph = Ceph::new();
    let bytes = pattern(1, 2 * MIB as usize);
    let disk = ceph.cloud.file("disk.img", &bytes);
    let qcow2 = ceph.cloud.qcow2(&disk, "disk.qcow2", "");
    let settings = [("CONVERT", "no"), ("DRIVER", "qcow2"), ("SPARSE", "no")];
    for (id, (name, value)) in (5..).zip(settings) {
        let call = ceph.cp(id, &qcow2).set(&format!("DATASTORE/TEMPLATE/{name}"), value);
        call.run().succeeds().replies(&format!("{} raw", ceph.spec(&format!("one-{id}"))));
        assert!(ceph.content(&format!("one-{id}")) == bytes, "{name}={value}");
    }
    let iso = ceph.cloud.iso("disc.iso");
    ceph.cp(9, &iso).cdrom().run().succeeds();
    assert!(ceph.content("one-9").starts_with(&fs::read(iso).unwrap()));
}
