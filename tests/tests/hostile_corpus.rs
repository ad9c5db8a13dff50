//! Images made to harm: every one is refused, however it comes and whatever is asked.
//!
//! Each call runs under limits on processor time and memory, so that a refusal that takes either is no
//! refusal.

use ferrostore_tests::hostile::{Hostile, When, corpus, healthy};
use ferrostore_tests::{Call, Cloud, Web, same_bytes, same_content};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a refusal tells the user to do, in one form or another.
const REMEDIES: [&str; 13] = [
    "convert it",
    "flatten it",
    "copy it",
    "merge it",
    "repair it",
    "decrypt it",
    "save it as one file",
    "decompress it",
    "fetch or make it again",
    "detach it",
    "register it",
    "keep it as qcow2",
    "have the administrator",
];

/// Where they are.
const CORPUS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/hostile-corpus");

/// What is wrong with the refusals of many images.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    /// Makes a call that must fail, in a line that names the image and what to do about it.
    fn unless_refused(&mut self, hostile: &Hostile, call: Call, path: &str) {
        let limits = ["prlimit", "--cpu=10", "--data=268435456", "--core=0"];
        let safe = format!("{CORPUS} {}", call.cloud().images().display());
        let call = call.under(limits).set("DATASTORE/TEMPLATE/SAFE_DIRS", safe);
        let check = || {
            call.run().fails().naming("IMAGE/PATH").saying(path).saying_any(&REMEDIES);
        };
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            self.0.push(format!("{}: {text}", hostile.name));
        }
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "{} complaints:\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// A cloud, and the images, which all tests share: made once in each run.
fn cloud_with_corpus() -> (Cloud, &'static [Hostile]) {
    static FILES: OnceLock<Vec<Hostile>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let _ = fs::remove_dir_all(CORPUS);
        fs::create_dir(CORPUS).unwrap();
        corpus(Path::new(CORPUS))
    });
    (Cloud::new(), files)
}

/// The formats that an image may be asked for and is to be refused in.
fn drivers(hostile: &Hostile) -> &'static [&'static str] {
    if hostile.when == When::MadeRaw { &["raw"] } else { &["", "raw", "qcow2"] }
}

#[test]
fn there_are_enough_of_them() {
    let (_cloud, files) = cloud_with_corpus();
    println!("{} hostile files", files.len());
    assert!(files.len() >= 300, "{}", files.len());
}

#[test]
fn what_they_were_made_from_is_accepted() {
    let cloud = Cloud::new();
    for (path, format) in healthy(&cloud.images()) {
        println!("{}", path.display());
        let kept = cloud.cp(&path).run().succeeds().image(format);
        same_bytes(&path, kept);
        for driver in ["raw", "qcow2"] {
            let image = cloud.cp(&path).driver(driver).run().succeeds().image(driver);
            same_content(&path, format, image, driver);
        }
        cloud.stat(&path).run().succeeds();
    }
}

#[test]
fn none_is_registered() {
    let (cloud, files) = cloud_with_corpus();
    let mut complaints = Complaints::default();
    for hostile in files {
        let path = hostile.path.to_str().unwrap();
        for driver in drivers(hostile) {
            complaints.unless_refused(hostile, cloud.cp(path).driver(driver), path);
        }
        if hostile.when != When::MadeRaw {
            complaints.unless_refused(
                hostile,
                cloud.cp(path).driver("qcow2").set("DATASTORE/TEMPLATE/CONVERT", "no"),
                path,
            );
            complaints.unless_refused(hostile, cloud.cp(path).cdrom(), path);
        }
    }
    complaints.none();
}

#[test]
fn none_is_measured_whose_header_tells() {
    let (cloud, files) = cloud_with_corpus();
    let mut complaints = Complaints::default();
    let web = Web::new();
    for hostile in files.iter().filter(|hostile| hostile.when == When::Measured) {
        let path = hostile.path.to_str().unwrap();
        complaints.unless_refused(hostile, cloud.stat(path), path);
        let url = web.serve(path);
        complaints.unless_refused(hostile, cloud.stat(&url), &url);
    }
    complaints.none();
}

/// Where files are compressed already, they are compressed once more.
fn none_is_registered_out_of(program: &str) {
    let (cloud, files) = cloud_with_corpus();
    let mut complaints = Complaints::default();
    let web = Web::new();
    for (number, hostile) in files.iter().enumerate() {
        let name = hostile.path.file_name().unwrap();
        let copy = cloud.images().join(name);
        fs::copy(&hostile.path, &copy).unwrap();
        let packed = cloud.compressed(&copy, program);
        let drivers = drivers(hostile);
        let local = packed.to_str().unwrap();
        complaints.unless_refused(
            hostile,
            cloud.cp(local).driver(drivers[number % drivers.len()]),
            local,
        );
        let url = web.serve(&packed);
        complaints.unless_refused(
            hostile,
            cloud.cp(&url).driver(drivers[(number + 1) % drivers.len()]),
            &url,
        );
        fs::remove_file(packed).unwrap();
        fs::remove_file(copy).unwrap();
    }
    complaints.none();
}

#[test]
fn none_is_registered_out_of_a_gzip_file() {
    none_is_registered_out_of("gzip");
}

#[test]
fn none_is_registered_out_of_a_bzip2_file() {
    none_is_registered_out_of("bzip2");
}

#[test]
fn none_is_registered_out_of_an_xz_file() {
    none_is_registered_out_of("xz");
}

#[test]
fn none_is_registered_out_of_a_zstd_file() {
    none_is_registered_out_of("zstd");
}

#[test]
fn none_is_downloaded() {
    let (cloud, files) = cloud_with_corpus();
    let mut complaints = Complaints::default();
    let web = Web::new();
    for hostile in files {
        let url = web.serve(&hostile.path);
        for driver in drivers(hostile) {
            complaints.unless_refused(hostile, cloud.cp(&url).driver(driver), &url);
        }
    }
    complaints.none();
}

/// A cloud whose other datastore holds `image`; its SOURCE there.
fn put_by_hand(cloud: &Cloud, image: &Path) -> PathBuf {
    let other = cloud.datastore().parent().unwrap().join("105");
    fs::create_dir_all(&other).unwrap();
    let source = other.join("0123456789abcdef0123456789abcdef");
    fs::copy(image, &source).unwrap();
    source
}

#[test]
fn none_is_cloned_out_of_another_datastore() {
    let (cloud, files) = cloud_with_corpus();
    let mut complaints = Complaints::default();
    for hostile in files {
        let Some(format) = hostile.recorded else { continue };
        let source = put_by_hand(&cloud, &hostile.path);
        let path = source.to_str().unwrap();
        for driver in drivers(hostile) {
            let call = cloud.clone_of(path, format).driver(driver);
            complaints.unless_refused(hostile, call, path);
        }
    }
    complaints.none();
}
