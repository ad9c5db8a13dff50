//! Images that must not be registered, made byte by byte.
//!
//! None of them is taken from anywhere: each is a healthy image with one thing wrong, or a few bytes that
//! only look like one. [`corpus`] makes all of them, and [`healthy`] the images that they were made from.

mod archives;
mod containers;
mod layout;
pub mod lists;
mod others;
mod polyglots;
mod qcow2;
mod tables;
mod vmdk;

pub use archives::archives;
use std::fs;
use std::path::{Path, PathBuf};

/// When an image must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whatever becomes of it, and when it is measured.
    Measured,
    /// Whatever becomes of it. Measuring it reads its header only.
    Registered,
    /// Where it is to be converted to raw. Registered as it is, it does no harm.
    MadeRaw,
}

/// An image that must be refused.
#[derive(Clone, Debug)]
pub struct Hostile {
    /// What is wrong with it.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// When it must be refused.
    pub when: When,
    /// The format that a front-end would have recorded for it, had it been in a datastore already;
    /// `None`: one in which it is harmless.
    pub recorded: Option<&'static str>,
}

/// Files that are being made.
struct Corpus<'d> {
    directory: &'d Path,
    files: Vec<Hostile>,
}

impl Corpus<'_> {
    fn add(&mut self, name: impl Into<String>, bytes: &[u8]) -> &mut Hostile {
        let name = name.into();
        let file: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = self.directory.join(format!("{:03}-{file}", self.files.len()));
        fs::write(&path, bytes).expect("a file of the corpus can be written");
        self.files.push(Hostile { name, path, when: When::Measured, recorded: None });
        self.files.last_mut().expect("it was just added")
    }

    /// An image that a front-end would have recorded as `format`.
    fn image(
        &mut self,
        format: &'static str,
        name: impl Into<String>,
        bytes: &[u8],
    ) -> &mut Hostile {
        let hostile = self.add(name, bytes);
        hostile.recorded = Some(format);
        hostile
    }
}

impl Hostile {
    fn when(&mut self, when: When) {
        self.when = when;
    }
}

/// Makes all of them in `directory`.
pub fn corpus(directory: &Path) -> Vec<Hostile> {
    let mut corpus = Corpus { directory, files: Vec::new() };
    qcow2::references(&mut corpus);
    qcow2::features(&mut corpus);
    qcow2::headers(&mut corpus);
    tables::tables(&mut corpus);
    tables::snapshots(&mut corpus);
    tables::truncated(&mut corpus);
    others::unwanted(&mut corpus);
    others::vmdk(&mut corpus);
    vmdk::descriptors(&mut corpus);
    vmdk::headers(&mut corpus);
    vmdk::tables(&mut corpus);
    vmdk::grains(&mut corpus);
    vmdk::footers(&mut corpus);
    others::vdi(&mut corpus);
    others::hyper_v(&mut corpus);
    polyglots::polyglots(&mut corpus);
    corpus.files
}

/// Makes the images that those of [`corpus`] differ from in one thing, with the formats that they have.
pub fn healthy(directory: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut files = Vec::new();
    let mut add = |name: &str, format, bytes: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, bytes).expect("a healthy image can be written");
        files.push((path, format));
    };
    for version in [2, 3] {
        for bits in [9, 12, 16, 21] {
            let image = layout::Image::healthy(version, bits);
            add(&format!("healthy-{version}-{bits}"), "qcow2", &image.bytes);
        }
    }
    let mut image = layout::Image::healthy(3, 16);
    image.put64(8, 112);
    add("healthy-nameless", "qcow2", &image.bytes);
    add("healthy-subclusters", "qcow2", &tables::subclusters().bytes);
    add("healthy-snapshot", "qcow2", &tables::with_snapshot().bytes);
    add("healthy-bitmap", "qcow2", &tables::with_bitmap().bytes);
    add("healthy-vmdk", "vmdk", &others::healthy_vmdk(""));
    add("healthy-footer", "vmdk", &others::vmdk_with_footer());
    add("healthy-vdi", "vdi", &others::healthy_vdi());
    add("healthy-vhd", "vpc", &others::healthy_vhd());
    add("healthy-vhdx", "vhdx", &others::healthy_vhdx());
    for (name, bytes) in vmdk::healthy() {
        add(&format!("healthy-vmdk-{name}"), "vmdk", &bytes);
    }
    files
}
