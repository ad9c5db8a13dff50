//! Why a signature is refused.

use runtime::command::CommandError;

/// Why a signature does not count. The text goes on after what holds it.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It is none.
    #[error(
        "holds no signature that can be verified: it must be a detached OpenPGP signature (.gpg, .sig, .asc) or one of minisign (.minisig)"
    )]
    None,
    /// It is of something else.
    #[error(
        "holds a wrong signature by the key {0}: the list, or the signature, is not as it was published; fetch both again"
    )]
    Wrong(String),
    /// It was not meant to last.
    #[error("holds a signature by the key {0} that has expired; get a newer list")]
    Expired(String),
    /// The key was not meant to last.
    #[error(
        "is signed by the key {0}, which has expired; get a newer list, or have the administrator put the publisher's renewed key into KEYRING"
    )]
    ExpiredKey(String),
    /// The publisher has taken the key back.
    #[error("is signed by the key {0}, which its owner has revoked; get a newer list")]
    RevokedKey(String),
    /// It is none of KEYRING.
    #[error(
        "is signed by the key {0}, which is not in KEYRING: if it is the publisher's, have the administrator add it there"
    )]
    UnknownKey(String),
    /// No key of KEYRING could have made it.
    #[error(
        "has an OpenPGP signature, and KEYRING holds only minisign keys: have the administrator add the publisher's key"
    )]
    NoOpenPgpKeys,
    /// Its hash algorithm is broken.
    #[error(
        "is signed by the key {0} over an MD5, SHA1 or RIPEMD160 digest, for which another list could be made; get a newer one"
    )]
    Weak(String),
    /// gpgv can't verify it.
    #[error("is signed by the key {0} with an algorithm that gpgv doesn't know")]
    Unsupported(String),
    /// It can't be asked.
    #[error("can't be verified: {0}")]
    Command(#[from] CommandError),
}
