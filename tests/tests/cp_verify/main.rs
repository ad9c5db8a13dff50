//! `cp`: checksum lists of publishers, their signatures, and what a datastore requires.

mod errors;
mod keys;
mod lists;
mod published;
mod required;

use ferrostore_tests::{Call, Cloud, MIB, Publisher, Web, digest};
use std::path::{Path, PathBuf};

const LIST: &str = "IMAGE/TEMPLATE/CHECKSUM_URL";
const SIGNATURE: &str = "IMAGE/TEMPLATE/SIGNATURE_URL";
const KEYRING: &str = "DATASTORE/TEMPLATE/KEYRING";
const KEY: &str = "releases@example.org";

/// A cloud with a disk, a server that has it, and a publisher with a key.
struct World {
    cloud: Cloud,
    web: Web,
    publisher: Publisher,
    disk: PathBuf,
    sha256: String,
}

impl World {
    fn new() -> Self {
        let (cloud, web, publisher) = (Cloud::new(), Web::new(), Publisher::with_key(KEY));
        let disk = cloud.raw("disk.img", 3 * MIB + 512);
        web.serve(&disk);
        let sha256 = digest("sha256sum", &disk);
        Self { cloud, web, publisher, disk, sha256 }
    }

    /// A list as `sha256sum` writes it.
    fn list(&self) -> Vec<u8> {
        format!("{}  other.img\n{} *disk.img\n", "5".repeat(64), self.sha256).into_bytes()
    }

    /// Puts a file beside the disk, on the server and in the directory.
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.cloud.file(name, bytes);
        self.web.serve(&path);
        path
    }

    /// Registers the disk by http, and as a file.
    fn both(&self) -> [Call<'_>; 2] {
        [self.cloud.cp(self.web.url("disk.img")), self.cloud.cp(&self.disk)]
    }

    /// As [`Self::both`], with a signed list beside the disk.
    fn signed(&self) -> [Call<'_>; 2] {
        self.put("SHA256SUMS", self.list());
        self.put("SHA256SUMS.gpg", self.publisher.detached(KEY, &self.list()));
        let keyring = text(self.publisher.keyring(&[KEY]));
        self.both().map(|call| {
            call.set(LIST, "SHA256SUMS").set(SIGNATURE, "SHA256SUMS.gpg").set(KEYRING, &keyring)
        })
    }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// Checks that the call succeeds and says `said` in the log.
#[track_caller]
fn verifies(call: Call, said: &str) -> PathBuf {
    let outcome = call.run();
    let log = outcome.log_lines();
    let image = outcome.succeeds().image("raw");
    let found = log.iter().any(|line| line.starts_with("INFO: verified: ") && line.contains(said));
    assert!(found, "{said:?} should be in {log:?}");
    image
}
