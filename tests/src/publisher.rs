//! A publisher of images: keys of GnuPG and of minisign, made for the test, and what is signed by them.

use crate::run;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Keys by the names that tests give them, and a directory of the administrator's below `/etc`.
#[derive(Debug)]
pub struct Publisher {
    home: TempDir,
    etc: TempDir,
}

/// A key of minisign.
pub struct MinisignKey(minisign::KeyPair);

impl Publisher {
    /// One without keys.
    pub fn new() -> Self {
        let directory =
            |place: &str| tempfile::Builder::new().prefix("ferrostore-test.").tempdir_in(place);
        let home = directory("/var/tmp").expect("/var/tmp is writable");
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let etc = directory("/etc").expect("/etc is writable for root");
        fs::set_permissions(etc.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { home, etc }
    }

    /// One with an OpenPGP key of this name.
    pub fn with_key(name: &str) -> Self {
        let publisher = Self::new();
        publisher.make_key(name);
        publisher
    }

    fn gpg(&self, arguments: &[&str]) {
        let home = self.home.path().to_str().unwrap();
        let always =
            ["--homedir", home, "--batch", "--quiet", "--yes", "--no-tty", "--passphrase", ""];
        run("gpg", always.iter().chain(arguments));
    }

    /// Makes an OpenPGP key that lasts.
    pub fn make_key(&self, name: &str) {
        self.gpg(&["--quick-generate-key", name, "ed25519", "sign", "never"]);
    }

    /// As [`Self::make_key`], of the kind that distributions have.
    pub fn make_rsa_key(&self, name: &str) {
        self.gpg(&["--quick-generate-key", name, "rsa3072", "sign", "never"]);
    }

    /// Makes an OpenPGP key that lasted for a month of the year 2020.
    pub fn make_expired_key(&self, name: &str) {
        let time = ["--faked-system-time", "20200101T000000"];
        let key = ["--quick-generate-key", name, "ed25519", "sign", "20200201T000000"];
        self.gpg(&[&time[..], &key].concat());
    }

    /// Makes an OpenPGP key that is as old as an expired one, and lasts.
    pub fn make_old_key(&self, name: &str) {
        let time = ["--faked-system-time", "20200101T000000"];
        self.gpg(
            &[&time[..], &["--quick-generate-key", name, "ed25519", "sign", "never"]].concat(),
        );
    }

    /// Takes a key back.
    pub fn revoke_key(&self, name: &str) {
        let ready =
            self.home.path().join(format!("openpgp-revocs.d/{}.rev", self.fingerprint(name)));
        // gpg has put a colon in front, so that it isn't imported by mistake.
        let text = fs::read_to_string(ready).unwrap().replace(":-----BEGIN", "-----BEGIN");
        let revocation = self.scratch("revocation", text.as_bytes());
        self.gpg(&["--import", revocation.to_str().unwrap()]);
    }

    /// The fingerprint of a key.
    pub fn fingerprint(&self, name: &str) -> String {
        let home = self.home.path().to_str().unwrap();
        let output =
            run("gpg", ["--homedir", home, "--batch", "--with-colons", "--list-keys", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("fpr:")).expect("the key is there");
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// A file of the administrator's below `/etc` with these bytes.
    pub fn etc(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.etc.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// A keyring below `/etc` with these OpenPGP keys.
    pub fn keyring(&self, names: &[&str]) -> PathBuf {
        let keys = self.exported(names, &[]);
        self.etc(&format!("{}.gpg", names.join("-")), keys)
    }

    /// As [`Self::keyring`], in ASCII armor.
    pub fn armored_keyring(&self, names: &[&str]) -> PathBuf {
        let keys = self.exported(names, &["--armor"]);
        self.etc(&format!("{}.asc", names.join("-")), keys)
    }

    /// All keys as GnuPG's own keybox.
    pub fn keybox(&self) -> PathBuf {
        self.etc("keys.kbx", fs::read(self.home.path().join("pubring.kbx")).unwrap())
    }

    /// A file below `/etc` with these keys of minisign.
    pub fn minisign_keyring(&self, name: &str, keys: &[&MinisignKey]) -> PathBuf {
        let text: String =
            keys.iter().map(|key| key.0.pk.to_box().unwrap().to_string() + "\n").collect();
        self.etc(name, text)
    }

    /// OpenPGP keys as bytes.
    pub fn exported(&self, names: &[&str], options: &[&str]) -> Vec<u8> {
        let home = self.home.path().to_str().unwrap();
        let words = [&["--homedir", home, "--batch"], options, &["--export"], names].concat();
        run("gpg", words).stdout
    }

    fn scratch(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What gpg makes of `content` with these arguments, signed by the key `name`.
    pub fn signed(&self, name: &str, content: &[u8], arguments: &[&str]) -> Vec<u8> {
        let (input, output) = (self.scratch("content", content), self.home.path().join("output"));
        let files = ["--output", output.to_str().unwrap(), "--local-user", name];
        self.gpg(&[&files[..], arguments, &[input.to_str().unwrap()]].concat());
        fs::read(output).unwrap()
    }

    /// A detached signature.
    pub fn detached(&self, name: &str, content: &[u8]) -> Vec<u8> {
        self.signed(name, content, &["--detach-sign"])
    }

    /// A clear-signed text.
    pub fn clear_signed(&self, name: &str, content: &[u8]) -> Vec<u8> {
        self.signed(name, content, &["--clear-sign"])
    }

    /// The directory below `/etc`.
    pub fn directory(&self) -> &Path {
        self.etc.path()
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // gpg has started it.
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "gpg-agent"])
            .stderr(Stdio::null())
            .status();
    }
}

impl MinisignKey {
    /// A new one.
    pub fn new() -> Self {
        Self(minisign::KeyPair::generate_unencrypted_keypair().unwrap())
    }

    /// Its number, as minisign shows it.
    pub fn number(&self) -> String {
        let number = self.0.pk.keynum().try_into().unwrap();
        format!("{:016X}", u64::from_le_bytes(number))
    }

    /// A signature of `content`.
    pub fn sign(&self, content: &[u8]) -> Vec<u8> {
        let comment = Some("a release");
        let signature =
            minisign::sign(Some(&self.0.pk), &self.0.sk, Cursor::new(content), comment, None);
        signature.unwrap().into_string().into_bytes()
    }
}

impl Default for MinisignKey {
    fn default() -> Self {
        Self::new()
    }
}
