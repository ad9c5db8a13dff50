//! The keys of publishers that the administrator trusts: the files that KEYRING names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::PublicKey;
use runtime::found::find;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

/// The directory below which the administrator keeps keyrings.
const PLACE: &str = "/etc";
/// Where links in it may lead: to keyrings that packages bring.
const LEADS_TO: [&str; 2] = [PLACE, "/usr"];
/// A keyring is not larger, bytes. Those of distributions are a hundred times smaller.
const LARGEST: u64 = 8 << 20;
/// What a file with OpenPGP keys in ASCII begins and ends with (RFC 9580, 6.2).
const ARMOR: (&str, &str) =
    ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");
/// The first letters of a minisign key in base64.
const MINISIGN: &str = "RW";

/// Why a keyring can't be used. The text goes on after KEYRING and its value.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It is elsewhere.
    #[error("is not below {PLACE}: keep keyrings there, for example in {PLACE}/ferrostore")]
    NotInPlace,
    /// It is a link to elsewhere.
    #[error(
        "is really {0}, which is neither below {PLACE} nor below /usr: copy the keyring to {PLACE}"
    )]
    LeadsOut(String),
    /// It can't be read.
    #[error("can't be read: {0}; let the user that runs OpenNebula (oneadmin) read it")]
    Unreadable(#[from] io::Error),
    /// Others could put their keys into it.
    #[error("can be written by every user: take that permission away (chmod o-w)")]
    Writable,
    /// It is no file, or has no keys.
    #[error(
        "is no keyring: it must hold OpenPGP keys (gpg --export, armored or not, or a keybox) or minisign keys"
    )]
    NoKeys,
}

/// Keys that count.
#[derive(Debug, Default)]
pub struct Keys {
    /// Keyrings as gpgv reads them.
    pub(super) openpgp: Vec<Vec<u8>>,
    pub(super) minisign: Vec<MinisignKey>,
}

/// A key of minisign, and its number as minisign shows it.
#[derive(Debug)]
pub(super) struct MinisignKey {
    pub(super) number: String,
    pub(super) key: PublicKey,
}

impl Keys {
    /// Adds those of the file at `path`.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn add(&mut self, path: &Path) -> Result<(), KeyringError> {
        self.add_bytes(&read(path)?)
    }

    fn add_bytes(&mut self, bytes: &[u8]) -> Result<(), KeyringError> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let before = self.openpgp.len() + self.minisign.len();
        if text.contains(ARMOR.0) {
            self.openpgp.push(unarmored(text).ok_or(KeyringError::NoKeys)?);
        } else if is_openpgp(bytes) {
            self.openpgp.push(bytes.to_vec());
        }
        self.minisign.extend(text.lines().filter_map(minisign_key));
        if self.openpgp.len() + self.minisign.len() == before {
            return Err(KeyringError::NoKeys);
        }
        Ok(())
    }
}

/// A file that only the administrator can have made, or that he has linked to.
fn read(path: &Path) -> Result<Vec<u8>, KeyringError> {
    let is_plain = !path.components().any(|part| part == Component::ParentDir);
    if !path.starts_with(PLACE) || !is_plain {
        return Err(KeyringError::NotInPlace);
    }
    let found = find(path)?;
    let real = found.real_path();
    if !LEADS_TO.iter().any(|directory| real.starts_with(directory)) {
        return Err(KeyringError::LeadsOut(real.display().to_string()));
    }
    if !found.metadata().is_file() || found.metadata().len() > LARGEST {
        return Err(KeyringError::NoKeys);
    }
    if found.metadata().mode() & 0o002 != 0 {
        return Err(KeyringError::Writable);
    }
    let mut bytes = Vec::new();
    found.open()?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether `bytes` begin with a public key (RFC 9580, 4.2 and 5: packets of type 6, in the old form or the new one), or are a keybox
/// (GnuPG's `kbx/keybox-blob.c`: `KBXf` after the length, type, version and flags of its first blob).
fn is_openpgp(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x98..=0x9b | 0xc6)) || bytes.get(8..12) == Some(b"KBXf")
}

/// All blocks of a file in ASCII armor, as bytes (RFC 9580, 6.2): headers, an empty line, base64, and a check sum behind a `=`.
fn unarmored(text: &str) -> Option<Vec<u8>> {
    let mut keys = Vec::new();
    for block in text.split(ARMOR.0).skip(1) {
        let block = block.split(ARMOR.1).next()?;
        let lines = block.lines().map(str::trim).skip(1);
        let lines = lines.skip_while(|line| line.contains(':')).skip_while(|line| line.is_empty());
        let base64: String = lines.take_while(|line| !line.starts_with('=')).collect();
        keys.extend(STANDARD.decode(base64).ok()?);
    }
    is_openpgp(&keys).then_some(keys)
}

fn minisign_key(line: &str) -> Option<MinisignKey> {
    let line = line.trim();
    let key = line.starts_with(MINISIGN).then(|| PublicKey::from_base64(line).ok()).flatten()?;
    let number = STANDARD.decode(line).ok()?.get(2..10)?.try_into().ok()?;
    Some(MinisignKey { number: shown_number(number), key })
}

/// The number of a key as minisign shows it.
pub(super) fn shown_number(number: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn keys_of_minisign_stand_on_lines_of_their_own() {
        let mut keys = Keys::default();
        let text = format!("untrusted comment: minisign public key\n{KEY}\n# another\n{KEY}\r\n");
        keys.add_bytes(text.as_bytes()).unwrap();
        let numbers: Vec<_> = keys.minisign.iter().map(|key| key.number.as_str()).collect();
        assert_eq!(numbers, ["E7620F1842B4E81F"; 2]);
    }

    #[test]
    fn armor_is_taken_off() {
        let armored = |payload: &[u8]| {
            let base64 = STANDARD.encode(payload);
            format!("Text.\n{}\nVersion: 1\n\n{base64}\n=abcd\n{}\n", ARMOR.0, ARMOR.1)
        };
        let two = armored(b"\x99\x00one") + &armored(b"\x99\x00two");
        let mut keys = Keys::default();
        keys.add_bytes(two.as_bytes()).unwrap();
        assert_eq!(keys.openpgp, [b"\x99\x00one\x99\x00two"]);
        let without_headers = two.replace("Version: 1\n", "").replace('\n', "\r\n");
        keys.add_bytes(without_headers.as_bytes()).unwrap();
        assert_eq!(keys.openpgp[0], keys.openpgp[1]);
    }

    #[test]
    fn what_holds_no_key_is_no_keyring() {
        for bytes in [
            &b""[..],
            b"root:x:0:0",
            b"RWQf6LRC",
            b"\x88\x00",
            &[0; 64],
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!",
        ] {
            let error = Keys::default().add_bytes(bytes).unwrap_err();
            assert!(matches!(error, KeyringError::NoKeys), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn keyrings_lie_below_etc_only() {
        for path in ["/tmp/x", "/etc/../tmp/x", "etc/x", "/etcetera/x", ""] {
            let error = read(Path::new(path)).unwrap_err();
            assert!(matches!(error, KeyringError::NotInPlace), "{path}: {error}");
        }
        assert!(matches!(read(Path::new("/etc")).unwrap_err(), KeyringError::NoKeys));
        // A link into /proc on every Linux.
        let error = read(Path::new("/etc/mtab")).unwrap_err();
        assert!(!matches!(error, KeyringError::NotInPlace), "{error}");
    }
}
