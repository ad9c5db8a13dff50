//! The checksums that a message can ask for.

/// Their attributes in `IMAGE/TEMPLATE`, and the programs that compute them.
pub const DIGESTS: [(&str, &str); 4] =
    [("MD5", "md5sum"), ("SHA1", "sha1sum"), ("SHA256", "sha256sum"), ("SHA512", "sha512sum")];

/// A digest that looks like `right`, and is wrong.
pub fn wrong_digest(right: &str) -> String {
    let last = if right.ends_with('0') { '1' } else { '0' };
    format!("{}{last}", &right[..right.len() - 1])
}
