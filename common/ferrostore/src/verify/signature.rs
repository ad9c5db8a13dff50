//! Signatures of checksum lists: OpenPGP by `gpgv`, minisign here.

pub use super::error::SignatureError;
use super::keys::{Keys, shown_number};
use super::status::good_key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::Signature;
use runtime::command::{Signed, gpgv_status, gpgv_text};

/// What a clear-signed text begins with (RFC 9580, 7).
const CLEAR_SIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
/// What a signature in ASCII armor begins with.
const ARMORED: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
/// What a signature of minisign begins with.
const MINISIGN: &[u8] = b"untrusted comment:";

/// Whether `list` is clear-signed: its signature is in it.
#[must_use]
pub fn is_clear_signed(list: &[u8]) -> bool {
    beginnings(list).next().is_some()
}

/// Where lines begin a clear-signed text.
fn beginnings(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b'\n').filter(|line| line.trim_ascii_end() == CLEAR_SIGNED)
}

/// The part of the clear-signed `list` that its signature is for, and who signed it.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_clear_signed(list: &[u8], keys: &Keys) -> Result<(Vec<u8>, String), SignatureError> {
    // Of two, gpgv would tell the verdicts and not whose is whose.
    if beginnings(list).count() != 1 {
        return Err(SignatureError::None);
    }
    let signed = Signed { keyrings: &keys.openpgp, content: list, signature: None };
    let key = ask(signed)?;
    Ok((gpgv_text(signed)?, key))
}

/// Who signed `list` by a `signature` apart from it: a fingerprint, or the number of a key of minisign.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_detached(
    list: &[u8],
    signature: &[u8],
    keys: &Keys,
) -> Result<String, SignatureError> {
    let start = signature.trim_ascii_start();
    if start.starts_with(MINISIGN) {
        return verify_minisign(list, start, keys);
    }
    if !start.starts_with(ARMORED) && !is_signature_packet(signature) {
        return Err(SignatureError::None);
    }
    ask(Signed { keyrings: &keys.openpgp, content: list, signature: Some(signature) })
}

/// Whether `bytes` begin with a signature and not with a message that has one (RFC 9580, 4.2 and 5: a packet of type 2).
fn is_signature_packet(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x88..=0x8b | 0xc2))
}

fn ask(signed: Signed) -> Result<String, SignatureError> {
    if signed.keyrings.is_empty() {
        // gpgv would look for keys of its own.
        return Err(SignatureError::NoOpenPgpKeys);
    }
    let (status, is_success) = gpgv_status(signed)?;
    good_key(&status, is_success)
}

fn verify_minisign(list: &[u8], signature: &[u8], keys: &Keys) -> Result<String, SignatureError> {
    /// Signatures of the older form (not of a hash) are as good, for what is in memory anyway.
    const OLDER_TOO: bool = true;
    let text = std::str::from_utf8(signature).map_err(|_| SignatureError::None)?;
    let signature = Signature::decode(text).map_err(|_| SignatureError::None)?;
    let number = number_of(text).ok_or(SignatureError::None)?;
    let mut same = keys.minisign.iter().filter(|key| key.number == number).peekable();
    if same.peek().is_none() {
        return Err(SignatureError::UnknownKey(number));
    }
    if same.any(|key| key.key.verify(list, &signature, OLDER_TOO).is_ok()) {
        return Ok(number);
    }
    Err(SignatureError::Wrong(number))
}

/// The number of the key that a signature of minisign says it is by.
fn number_of(signature: &str) -> Option<String> {
    let bytes = STANDARD.decode(signature.lines().nth(1)?.trim()).ok()?;
    Some(shown_number(bytes.get(2..10)?.try_into().ok()?))
}
