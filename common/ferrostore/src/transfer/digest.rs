//! Digests of an image's bytes as they come, before decompression.

use crate::record;
use digest::{Digest as _, DynDigest};
use disk_image::sequence::Run;
use runtime::text::shown;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What is wrong with a digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// It can't be one.
    #[error(
        "IMAGE/TEMPLATE/{name} {} is not valid: it must be {digits} hexadecimal digits",
        shown(value)
    )]
    Invalid {
        /// `MD5`, `SHA1`, `SHA256` or `SHA512`.
        name: &'static str,
        /// The value.
        value: String,
        /// How many digits it must have.
        digits: usize,
    },
    /// The image has another.
    #[error(
        "IMAGE/TEMPLATE/{name} {} does not match: the image has {actual}; correct the digest, or fetch the image again",
        shown(value)
    )]
    Mismatch {
        /// `MD5`, `SHA1`, `SHA256` or `SHA512`.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The image's own.
        actual: String,
    },
    /// The image has another than its publisher's list says.
    #[error(
        "IMAGE/TEMPLATE/CHECKSUM_URL {} does not match: the image has {actual}, where the list has the {name} digest {value}; fetch the image again, or give the list of this very release",
        shown(list)
    )]
    NotAsListed {
        /// As [`Self::Mismatch`].
        name: &'static str,
        /// The digest in the list.
        value: String,
        /// The image's own.
        actual: String,
        /// `IMAGE/TEMPLATE/CHECKSUM_URL`, as it may be shown.
        list: String,
    },
    /// The image has another than the marketplace says.
    #[error(
        "IMAGE/TEMPLATE/FROM_APP_MD5 {} does not match: the image has {actual}, and REQUIRE_DIGEST is set; have the MD5 of the marketplace's app corrected, or export the app again",
        shown(value)
    )]
    NotTheApp {
        /// The value.
        value: String,
        /// The image's own.
        actual: String,
    },
    /// The image can't be read.
    #[error("the image can't be read for its digests: {0}")]
    Unreadable(#[from] io::Error),
}

/// Who says what digest an image has.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The user, by the attribute of the algorithm's name.
    Template,
    /// A checksum list.
    List {
        /// `IMAGE/TEMPLATE/CHECKSUM_URL`, as it may be shown.
        list: String,
        /// The key by which it is signed, where that was verified.
        key: Option<String>,
    },
    /// The marketplace. Where that is wrong, it is an error only if digests are `required`.
    App {
        /// `REQUIRE_DIGEST`.
        required: bool,
    },
}

/// A digest that the image should have.
struct Expected {
    value: String,
    origin: Origin,
}

/// An algorithm, and the digests of it.
struct Wanted {
    name: &'static str,
    hasher: Box<dyn DynDigest + Send>,
    expected: Vec<Expected>,
}

/// Digests to verify: each algorithm is computed once, whatever the number of digests of it.
#[derive(Default)]
pub struct Digests(Vec<Wanted>);

pub(super) fn hasher(name: &str) -> Box<dyn DynDigest + Send> {
    match name {
        "MD5" => Box::new(md5::Md5::new()),
        "SHA1" => Box::new(sha1::Sha1::new()),
        "SHA256" => Box::new(sha2::Sha256::new()),
        _ => Box::new(sha2::Sha512::new()),
    }
}

impl Digests {
    /// The digests that a message gives, as `(name, value)`.
    ///
    /// # Errors
    /// [`DigestError::Invalid`].
    pub fn new(given: &[(&'static str, String)]) -> Result<Self, DigestError> {
        let mut digests = Self::default();
        for (name, value) in given {
            if let Err(digits) = digests.add(name, value, Origin::Template) {
                return Err(DigestError::Invalid { name, value: value.clone(), digits });
            }
        }
        Ok(digests)
    }

    /// Adds a digest.
    ///
    /// # Errors
    /// How many hexadecimal digits it must have, where it has others.
    pub fn add(&mut self, name: &'static str, value: &str, origin: Origin) -> Result<(), usize> {
        let hasher = hasher(name);
        let digits = hasher.output_size() * 2;
        if value.len() != digits || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(digits);
        }
        let expected = Expected { value: value.to_owned(), origin };
        match self.0.iter_mut().find(|wanted| wanted.name == name) {
            Some(wanted) => wanted.expected.push(expected),
            None => self.0.push(Wanted { name, hasher, expected: vec![expected] }),
        }
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next bytes of the image.
    pub fn update(&mut self, bytes: &[u8]) {
        for wanted in &mut self.0 {
            wanted.hasher.update(bytes);
        }
    }

    /// Compares, once all bytes have been taken, and says what was verified.
    ///
    /// # Errors
    /// [`DigestError`].
    pub fn verify(self) -> Result<(), DigestError> {
        let mut best: Option<Verified> = None;
        for Wanted { name, hasher, expected } in self.0 {
            let actual = hexadecimal(&hasher.finalize());
            if name == "SHA256" {
                record::note(|facts| facts.sha256.clone_from(&actual));
            }
            for Expected { value, origin } in expected {
                if compare(name, &value, &actual, &origin)? {
                    let verified = Verified { name, digest: actual.clone(), origin };
                    if best.as_ref().is_none_or(|best| best.strength() < verified.strength()) {
                        best = Some(verified);
                    }
                }
            }
        }
        if let Some(verified) = best {
            verified.tell();
        }
        Ok(())
    }

    /// Digests what is read from `stream`.
    pub fn verify_stream<R: Read>(self, stream: R) -> (Digesting<R>, StreamDigests) {
        let digests = Arc::new(Mutex::new(self));
        (Digesting { stream, digests: Arc::clone(&digests) }, StreamDigests(digests))
    }

    /// Begins verifying the whole of `file` on a thread of its own, while others read it too: the
    /// page cache serves both, so the disk is read once.
    ///
    /// # Errors
    /// Where the file can't be shared with a thread.
    pub fn verify_file(self, file: &File) -> Result<Verification, DigestError> {
        if self.is_empty() {
            return Ok(Verification(None));
        }
        let file = file.try_clone()?;
        let verify = move || {
            let mut digests = self;
            read_whole(&file, |bytes| digests.update(bytes))?;
            digests.verify()
        };
        Ok(Verification(Some(std::thread::Builder::new().spawn(verify)?)))
    }
}

/// A stream whose bytes are digested as they pass.
pub struct Digesting<R> {
    stream: R,
    digests: Arc<Mutex<Digests>>,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..count]);
        Ok(count)
    }
}

/// The digests of a stream that has been read to its end.
pub struct StreamDigests(Arc<Mutex<Digests>>);

impl StreamDigests {
    /// Compares.
    ///
    /// # Errors
    /// As [`Digests::verify`].
    pub fn verify(self) -> Result<(), DigestError> {
        let mut digests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Digests(std::mem::take(&mut digests.0)).verify()
    }
}

/// A verification that is under way.
#[derive(Debug)]
pub struct Verification(Option<JoinHandle<Result<(), DigestError>>>);

impl Verification {
    /// Waits for the end.
    ///
    /// # Errors
    /// As [`Digests::verify`], or where the file can't be read.
    pub fn finish(self) -> Result<(), DigestError> {
        match self.0.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread broke off").into()),
        }
    }
}

fn read_whole(file: &File, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; super::PIECE];
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                take(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the image's `actual` digest is the one that is expected. Where it is not, and that is no error, a log line says so.
fn compare(
    name: &'static str,
    value: &str,
    actual: &str,
    origin: &Origin,
) -> Result<bool, DigestError> {
    if actual.eq_ignore_ascii_case(value) {
        return Ok(true);
    }
    let (value, actual) = (value.to_owned(), actual.to_owned());
    Err(match origin {
        Origin::Template => DigestError::Mismatch { name, value, actual },
        Origin::List { list, .. } => {
            DigestError::NotAsListed { name, value, actual, list: list.clone() }
        }
        Origin::App { required: true } => DigestError::NotTheApp { value, actual },
        Origin::App { required: false } => {
            log::warn!(
                "the image is not what its marketplace says: it has the MD5 digest {actual}, and the app {value} (FROM_APP_MD5); it is registered all the same, because REQUIRE_DIGEST is not set"
            );
            return Ok(false);
        }
    })
}

/// A digest that the image has, as it should.
struct Verified {
    name: &'static str,
    digest: String,
    origin: Origin,
}

impl Verified {
    /// A signature counts before the length of the digest.
    fn strength(&self) -> (bool, usize) {
        (matches!(self.origin, Origin::List { key: Some(_), .. }), self.digest.len())
    }

    /// Says it in the log, and notes it for the record and for oned.
    fn tell(self) {
        let mut text = format!("{} {}", self.name.to_ascii_lowercase(), self.digest);
        if let Origin::List { key: Some(key), .. } = &self.origin {
            text += ", signed by ";
            text += key;
        }
        let by = match &self.origin {
            Origin::Template => String::new(),
            Origin::List { list, .. } => format!(" (listed in {list})"),
            Origin::App { .. } => " (the marketplace's FROM_APP_MD5)".to_owned(),
        };
        log::info!("verified: {text}{by}");
        record::note(|facts| facts.verified = text);
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An MD5 digest of bytes, and of runs of zeroes (holes) that are not read.
#[derive(Default)]
pub struct Md5(md5::Md5);

impl Md5 {
    /// Takes the next bytes.
    pub fn take(&mut self, run: Run) {
        static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
        match run {
            Run::Bytes(bytes) => digest::Digest::update(&mut self.0, bytes),
            Run::Zeroes(mut count) => {
                while count > 0 {
                    let now = count.min(ZEROES.len() as u64);
                    digest::Digest::update(&mut self.0, &ZEROES[..now as usize]);
                    count -= now;
                }
            }
        }
    }

    /// The digest, in lower-case hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

/// The MD5 digest of a file, in lower-case hexadecimal digits.
///
/// # Errors
/// Where it can't be read.
pub fn md5_of(file: &File) -> io::Result<String> {
    let mut hasher = md5::Md5::new();
    read_whole(file, |bytes| digest::Digest::update(&mut hasher, bytes))?;
    Ok(hexadecimal(&hasher.finalize()))
}
