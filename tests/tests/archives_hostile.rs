//! Archives made to harm: every one is refused, however it comes and whatever is asked.

use ferrostore_tests::hostile::{Hostile, When, archives};
use ferrostore_tests::{Call, Cloud, Page, Rule, Web};

/// Makes a call that must fail in a line that names the image, within little time and memory; what is wrong with that.
fn complaint(hostile: &Hostile, call: Call, path: &str) -> Option<String> {
    let call = call.under(["prlimit", "--cpu=10", "--data=536870912", "--core=0"]);
    let check = || {
        let rules = [Rule::OF_ARCHIVES, Rule::OF_IMAGES].concat();
        let failure = call.run().refused_by_any(&rules);
        failure.naming("IMAGE/PATH").saying(path);
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    Some(format!("{} ({path}): {text}", hostile.name))
}

/// Of an archive that passes by, the disk is written before its directory comes: that the directory is damaged is
/// told where it can be read first.
fn has_only_a_bad_directory(hostile: &Hostile) -> bool {
    ["zip cut off after 211", "zip with a directory", "zip with a member", "zip with a zip64"]
        .iter()
        .any(|begin| hostile.name.starts_with(begin))
}

fn refused(paths: impl Fn(&Cloud, &Hostile) -> Vec<String>) {
    let cloud = Cloud::new();
    let corpus = archives(&cloud.images());
    assert!(corpus.len() >= 300, "{} archives", corpus.len());
    let mut complaints = Vec::new();
    for hostile in &corpus {
        for path in paths(&cloud, hostile) {
            let made_raw = hostile.when == When::MadeRaw;
            let drivers: &[&str] = if made_raw { &["raw"] } else { &["", "raw", "qcow2"] };
            for driver in drivers {
                complaints.extend(complaint(hostile, cloud.cp(&path).driver(driver), &path));
            }
            if hostile.when == When::Measured {
                complaints.extend(complaint(hostile, cloud.stat(&path), &path));
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn files_are_refused() {
    refused(|_, hostile| vec![hostile.path.to_str().unwrap().to_owned()]);
}

#[test]
fn compressed_ones_are_refused() {
    refused(|cloud, hostile| {
        if has_only_a_bad_directory(hostile) {
            return Vec::new();
        }
        vec![cloud.compressed(&hostile.path, "gzip").to_str().unwrap().to_owned()]
    });
}

#[test]
fn downloads_are_refused() {
    let web = Web::new();
    refused(|_, hostile| {
        if has_only_a_bad_directory(hostile) {
            return Vec::new();
        }
        let whole = Page::of(&hostile.path).without_ranges();
        vec![web.serve(&hostile.path), web.page("whole", whole)]
    });
}
