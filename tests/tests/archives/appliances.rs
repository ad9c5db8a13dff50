//! Appliances: an OVF file says which disks there are.

use super::{MOST_REQUESTS, gives, gives_everywhere, refuses};
use ferrostore_tests::archive::ovf;
use ferrostore_tests::{Cloud, MIB, Rule, Web, digest, pattern, same_bytes};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of an appliance, and the digests of all of them in a manifest.
pub(super) struct Appliance<'c> {
    cloud: &'c Cloud,
    pub(super) members: Vec<(String, PathBuf)>,
}

impl<'c> Appliance<'c> {
    pub(super) fn new(cloud: &'c Cloud, description: &str) -> Self {
        let ovf = cloud.file("vm.ovf", description);
        Self { cloud, members: vec![("vm.ovf".to_owned(), ovf)] }
    }

    pub(super) fn with(mut self, name: &str, file: &Path) -> Self {
        self.members.push((name.to_owned(), file.to_owned()));
        self
    }

    /// With a manifest at `place`, in the form that `line` gives to a name and its digest by `program`.
    fn manifest(
        mut self,
        place: usize,
        program: &str,
        line: impl Fn(&str, &str) -> String,
    ) -> Self {
        let lines = self.members.iter().map(|(name, path)| line(name, &digest(program, path)));
        let manifest = self.cloud.file("vm.mf", lines.collect::<String>());
        self.members.insert(place, ("vm.mf".to_owned(), manifest));
        self
    }

    pub(super) fn tar(&self, name: &str) -> PathBuf {
        self.cloud.tar(name, &["--format=ustar"], &self.members)
    }
}

pub(super) const ONE_DISK: ([&str; 1], [&str; 1]) = (
    ["ovf:id='f1' ovf:href='vm-disk1.vmdk'"],
    ["ovf:diskId='d1' ovf:fileRef='f1' ovf:capacity='4' ovf:capacityAllocationUnits='byte * 2^20'"],
);

pub(super) fn one_disk(cloud: &Cloud) -> (PathBuf, PathBuf) {
    let disk = cloud.raw("plain.img", 4 * MIB);
    let image = cloud.converted(&disk, "disk.vmdk", "vmdk", "subformat=streamOptimized");
    (disk, image)
}

#[test]
fn an_appliance_is_registered_by_its_disk() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (disk, image) = one_disk(&cloud);
    let disc = cloud.iso("tools.iso");
    let appliance = Appliance::new(&cloud, &ovf(&ONE_DISK.0, &ONE_DISK.1))
        .with("vm-disk1.vmdk", &image)
        .with("tools.iso", &disc);
    let plain = appliance.tar("vm.ova");
    gives_everywhere(&cloud, &web, &plain, &disk);
    gives_everywhere(&cloud, &web, &cloud.compressed(&plain, "gzip"), &disk);
    let zip = cloud.zip("vm.zip", "DEFLATED", false, &appliance.members);
    gives_everywhere(&cloud, &web, &zip, &disk);
    // What the OVF file does not tell of can be chosen all the same.
    let call = cloud.cp(format!("{}#tools.iso", plain.display())).cdrom();
    same_bytes(&disc, call.run().succeeds().image("raw"));
}

#[test]
fn stat_of_an_appliance_asks_a_server_for_little() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise.img", pattern(7, 30 * MIB as usize));
    let image = cloud.converted(&noise, "disk.vmdk", "vmdk", "subformat=streamOptimized");
    let appliance = Appliance::new(&cloud, &ovf(&ONE_DISK.0, &ONE_DISK.1))
        .with("vm-disk1.vmdk", &image)
        .manifest(2, "sha256sum", |name, digest| format!("SHA256({name})= {digest}\n"));
    let files = [
        appliance.tar("vm.ova"),
        cloud.zip("vm.zip", "DEFLATED", false, &appliance.members),
        cloud.zip("raw.zip", "STORED", false, &[("disk.img", &noise)]),
        cloud.tar("raw.tar", &[], &[("disk.img", &noise)]),
    ];
    for file in files {
        cloud.stat(web.serve(&file)).run().succeeds().replies("30");
        let requests = web.requests();
        let sent: u64 = requests.iter().map(|request| request.sent).sum();
        println!("{}: {} requests, {sent} bytes", file.display(), requests.len());
        assert!(requests.len() <= MOST_REQUESTS && sent < 2 * MIB);
    }
}

#[test]
fn an_ovf_file_decides_which_disks_there_are() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (disk, image) = one_disk(&cloud);
    let other = cloud.file("other.img", pattern(3, 2 * MIB as usize));
    let second = cloud.qcow2(&other, "other.qcow2", "");
    let files = ["id='a' href='first.vmdk'", "id='b' href='second.img'"];
    let disks =
        ["fileRef='b' capacity='2097152'", "capacity='9'", "fileRef='a' capacity='4194304'"];
    for (name, order) in [("in front", 0), ("behind", 2)] {
        println!("the OVF file is {name}");
        let mut appliance = Appliance::new(&cloud, &ovf(&files, &disks))
            .with("first.vmdk", &image)
            .with("second.img", &second);
        appliance.members[..=order].rotate_left(1);
        let file = appliance.tar("vm.ova");
        for path in [file.to_str().unwrap().to_owned(), web.serve(&file)] {
            refuses(&cloud, &path, &["#1 \"second.img\" (2 MiB), #2 \"first.vmdk\" (4 MiB)"]);
            let number = format!("{path}#1");
            if order == 2 && path.starts_with("http") {
                // One pass: which disk is the first is known only behind both.
                let late = cloud.cp(&number).run().fails().naming("IMAGE/PATH");
                late.saying("name the disk with #");
            } else {
                gives(&cloud, &number, &other);
                gives(&cloud, &format!("{path}#2"), &disk);
            }
            gives(&cloud, &format!("{path}#first.vmdk"), &disk);
        }
    }
    let none = Appliance::new(&cloud, &ovf(&files, &disks[..1])).with("first.vmdk", &image);
    refuses(
        &cloud,
        none.tar("none.ova").to_str().unwrap(),
        &["\"second.img\", which is not inside"],
    );
    let child = ["fileRef='a' capacity='4' parentRef='base'"];
    let child = Appliance::new(&cloud, &ovf(&files[..1], &child)).with("first.vmdk", &image);
    refuses(&cloud, child.tar("child.ova").to_str().unwrap(), &["difference"]);
}

#[test]
fn an_ovf_file_is_read_in_any_encoding_and_its_names_as_uris() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (disk, image) = one_disk(&cloud);
    let text = ovf(&["id='f1' href='the%20disk.vmdk'"], &ONE_DISK.1);
    let appliance = Appliance::new(&cloud, &text).with("the disk.vmdk", &image);
    gives_everywhere(&cloud, &web, &appliance.tar("vm.ova"), &disk);
    let german = |text: &str| text.replace("Virtual disks", "F\u{fc}r \u{201e}alle\u{201c}");
    let wide: Vec<u8> = german(&text).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let narrow: Vec<u8> =
        german(&text).chars().map(|c| u8::try_from(c as u32).unwrap_or(0x84)).collect();
    for bytes in [wide, narrow] {
        let ovf = cloud.file("other.ovf", bytes);
        let members = [("vm.ovf", &ovf), ("the disk.vmdk", &image)];
        gives_everywhere(&cloud, &web, &cloud.tar("vm.ova", &[], &members), &disk);
    }
}

#[test]
fn a_capacity_that_the_disk_does_not_have_is_told() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (_, image) = one_disk(&cloud);
    let text = ovf(&ONE_DISK.0, &["fileRef='f1' capacity='9' capacityAllocationUnits='MegaBytes'"]);
    let file = Appliance::new(&cloud, &text).with("vm-disk1.vmdk", &image).tar("vm.ova");
    for path in [file.to_str().unwrap(), &web.serve(&file)] {
        cloud.stat(path).run().succeeds().replies("4");
        for driver in ["raw", "qcow2"] {
            let outcome = cloud.cp(path).driver(driver).run();
            let log = outcome.log_lines().join("\n");
            assert!(log.contains("WARN: ") && log.contains("9 MiB"), "{log}");
            outcome.succeeds().image(driver);
        }
    }
}

#[test]
fn a_choice_that_no_disk_is_lists_those_of_the_ovf_file() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (_, image) = one_disk(&cloud);
    let file = Appliance::new(&cloud, &ovf(&ONE_DISK.0, &ONE_DISK.1))
        .with("vm-disk1.vmdk", &image)
        .tar("vm.ova");
    let packed = cloud.compressed(&file, "gzip");
    for path in [file.to_str().unwrap(), packed.to_str().unwrap(), &web.serve(&file)] {
        for choice in ["2", "other.vmdk"] {
            refuses(&cloud, &format!("{path}#{choice}"), &[choice, "#1 \"vm-disk1.vmdk\" (4 MiB)"]);
        }
    }
}

#[test]
fn disks_that_are_compressed_or_in_parts_are_put_together() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (disk, image) = one_disk(&cloud);
    let packed = cloud.compressed(&image, "gzip");
    let files = ["id='f1' href='d.vmdk' compression='gzip'"];
    let appliance = Appliance::new(&cloud, &ovf(&files, &ONE_DISK.1)).with("d.vmdk", &packed);
    gives_everywhere(&cloud, &web, &appliance.tar("packed.ova"), &disk);
    let raw = cloud.compressed(&disk, "gzip");
    let appliance = Appliance::new(&cloud, &ovf(&files, &ONE_DISK.1)).with("d.vmdk", &raw);
    gives_everywhere(&cloud, &web, &appliance.tar("raw.ova"), &disk);
    for (image, more) in [(&image, ""), (&packed, " compression='gzip'")] {
        let bytes = fs::read(image).unwrap();
        let part = bytes.len() / 3 + 1;
        let file = format!("id='f1' href='d.vmdk' size='{}' chunkSize='{part}'{more}", bytes.len());
        let mut appliance = Appliance::new(&cloud, &ovf(&[&file], &ONE_DISK.1));
        for (number, part) in bytes.chunks(part).enumerate() {
            let path = cloud.file(&format!("part-{number}"), part);
            appliance = appliance.with(&format!("d.vmdk.{number:09}"), &path);
        }
        appliance = appliance.manifest(4, "sha1sum", |name, sum| format!("SHA1({name})= {sum}\n"));
        gives_everywhere(&cloud, &web, &appliance.tar("parts.ova"), &disk);
        appliance.members.remove(2);
        refuses(&cloud, appliance.tar("gap.ova").to_str().unwrap(), &["its parts have"]);
    }
    // A name that exists with the suffix of a part only.
    let appliance = Appliance::new(&cloud, &ovf(&ONE_DISK.0, &ONE_DISK.1))
        .with("vm-disk1.vmdk.000000000", &image);
    gives_everywhere(&cloud, &web, &appliance.tar("suffix.ova"), &disk);
}

#[test]
fn a_manifest_is_checked_in_every_form_and_place() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (disk, image) = one_disk(&cloud);
    let appliance =
        || Appliance::new(&cloud, &ovf(&ONE_DISK.0, &ONE_DISK.1)).with("vm-disk1.vmdk", &image);
    let forms: [(&str, &dyn Fn(&str, &str) -> String); 5] = [
        ("sha1sum", &|name, sum| format!("SHA1({name})= {sum}\n")),
        ("sha256sum", &|name, sum| format!("SHA256 ({name}) = {sum}\r\n")),
        ("sha256sum", &|name, sum| format!("SHA-256(./{name})={sum}\n")),
        ("sha512sum", &|name, sum| format!("sha512({name})= {}\n", sum.to_uppercase())),
        ("sha1sum", &|name, sum| format!("SHA1({name})= {sum}\nSHA1(gone.nvram)= {sum}\n")),
    ];
    for (number, (program, line)) in forms.into_iter().enumerate() {
        for place in [0, 1, 2] {
            let good = appliance().manifest(place, program, line).tar("good.ova");
            if number == 4 {
                let outcome = cloud.cp(&good).run();
                let log = outcome.log_lines().join("\n");
                assert!(log.contains("WARN: ") && log.contains("gone.nvram"), "{log}");
                outcome.succeeds();
                continue;
            }
            gives_everywhere(&cloud, &web, &good, &disk);
            let bad = appliance()
                .manifest(place, program, |name, sum| line(name, &sum.replace(['1', 'a'], "2")))
                .tar("bad.ova");
            let packed = cloud.compressed(&bad, "gzip");
            for path in [bad.to_str().unwrap(), packed.to_str().unwrap(), &web.serve(&bad)] {
                let failure = cloud
                    .cp(path)
                    .driver("qcow2")
                    .run()
                    .refused(Rule::ManifestMismatch)
                    .naming("IMAGE/PATH");
                failure.saying("manifest").saying("instead of");
            }
        }
    }
}
