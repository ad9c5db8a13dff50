//! Checksum lists, as `sha256sum`, `shasum`, `openssl dgst` and BSD's `sha256` write them.
//!
//! | form | line |
//! |---|---|
//! | GNU | `<digest>  <name>`, or `<digest> *<name>`; with a `\` in front, `\\`, `\n` and `\r` in the name are escaped |
//! | BSD | `SHA256 (<name>) = <digest>` |
//! | bare | `<digest>`, and no name at all |
//!
//! As these programs do with `--check`, other lines are passed over: comments, and what stands around a signed text.

/// Digests by their lengths in hexadecimal digits, the weakest first.
const ALGORITHMS: [(&str, usize); 4] = [("MD5", 32), ("SHA1", 40), ("SHA256", 64), ("SHA512", 128)];

/// A digest that a list has for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `MD5`, `SHA1`, `SHA256` or `SHA512`.
    pub algorithm: &'static str,
    /// The digest, in lower-case hexadecimal digits.
    pub digest: String,
}

impl Listed {
    /// Whether other content with the same digest can be made.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        matches!(self.algorithm, "MD5" | "SHA1")
    }
}

/// Why a list tells no digest of a file. The text goes on after the list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ListError {
    /// No line is one of a checksum list.
    #[error(
        "is no checksum list: it has no line with an MD5, SHA1, SHA256 or SHA512 digest; check that it is the list and no other page"
    )]
    NoList,
    /// Other files are in it.
    #[error(
        "doesn't list {0}: its digests are of other files; check that it is the list of this very release, and that IMAGE/PATH ends with the name that the list has"
    )]
    NotListed(String),
    /// Two digests, of which one must be wrong.
    #[error(
        "is ambiguous: it has two different {algorithm} digests for {name}; give one that has only one of them, or set IMAGE/TEMPLATE/{algorithm} instead"
    )]
    Ambiguous {
        /// The algorithm.
        algorithm: &'static str,
        /// The file.
        name: String,
    },
}

/// The strongest digest that `list` has for the file at `path`: for a line with that path, or with the end of it from some `/` on, or
/// else the only one in a list without names.
///
/// # Errors
/// [`ListError`].
pub fn find(list: &[u8], path: &[u8]) -> Result<Listed, ListError> {
    let lines = list.split(|&byte| byte == b'\n').filter_map(Line::parse);
    let (named, bare): (Vec<_>, Vec<_>) = lines.partition(|line| line.name.is_some());
    let shown = || String::from_utf8_lossy(name_of(path)).into_owned();
    let wanted: Vec<_> = match (named.is_empty(), bare.is_empty()) {
        (true, true) => return Err(ListError::NoList),
        (true, false) => bare,
        (false, _) => named.into_iter().filter(|line| line.is_for(path)).collect(),
    };
    for (algorithm, _) in ALGORITHMS.into_iter().rev() {
        let mut digests = wanted.iter().filter(|line| line.algorithm == algorithm);
        let Some(first) = digests.next() else { continue };
        if digests.any(|other| other.digest != first.digest) {
            return Err(ListError::Ambiguous { algorithm, name: shown() });
        }
        return Ok(Listed { algorithm, digest: first.digest.clone() });
    }
    Err(ListError::NotListed(runtime::text::shown(&shown())))
}

/// The last part of a path.
fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// A line with a digest.
#[derive(Debug)]
struct Line {
    algorithm: &'static str,
    digest: String,
    /// The file, where it is told.
    name: Option<Vec<u8>>,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self::tagged(line.trim_ascii()).or_else(|| Self::plain(line))
    }

    /// `<digest>  <name>`, or `<digest>`.
    fn plain(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii_start();
        let (escaped, line) = match line.strip_prefix(b"\\") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        let (digits, rest) = line.split_at(end);
        let algorithm = ALGORITHMS.into_iter().find(|(_, length)| *length == end)?.0;
        let digest = String::from_utf8_lossy(digits).to_ascii_lowercase();
        if rest.trim_ascii().is_empty() {
            return (!escaped).then_some(Self { algorithm, digest, name: None });
        }
        // One blank, then another one or the sign of a binary file.
        let rest = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"\t"))?;
        let name = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"*")).unwrap_or(rest);
        let name = if escaped { unescaped(name)? } else { name.trim_ascii().to_vec() };
        Some(Self { algorithm, digest, name: Some(name) })
    }

    /// `SHA256 (<name>) = <digest>`.
    fn tagged(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')').filter(|&close| close > open)?;
        let tag = line[..open].trim_ascii().to_ascii_uppercase();
        // openssl 3 writes SHA2-256.
        let algorithm = match tag.as_slice() {
            b"MD5" => "MD5",
            b"SHA1" | b"SHA-1" => "SHA1",
            b"SHA256" | b"SHA2-256" | b"SHA-256" => "SHA256",
            b"SHA512" | b"SHA2-512" | b"SHA-512" => "SHA512",
            _ => return None,
        };
        let digits = line[close + 1..].trim_ascii().strip_prefix(b"=")?.trim_ascii();
        let length = ALGORITHMS.into_iter().find(|(name, _)| *name == algorithm)?.1;
        if digits.len() != length || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digest = String::from_utf8_lossy(digits).to_ascii_lowercase();
        Some(Self { algorithm, digest, name: Some(line[open + 1..close].to_vec()) })
    }

    /// Whether it is about the file at `path`.
    fn is_for(&self, path: &[u8]) -> bool {
        let Some(name) = &self.name else { return false };
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let Some(before) = path.strip_suffix(name) else { return false };
        !name_of(name).is_empty()
            && (before.is_empty() || before.ends_with(b"/") || name.starts_with(b"/"))
    }
}

/// A name as it was before `sha256sum` has escaped it; nothing where it is not one that was.
fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn digest(digit: char, algorithm: &str) -> String {
        let length = ALGORITHMS.into_iter().find(|(name, _)| *name == algorithm).unwrap().1;
        digit.to_string().repeat(length)
    }

    #[track_caller]
    fn finds(list: &str, path: &str, digit: char, algorithm: &'static str) {
        let expected = Listed { algorithm, digest: digest(digit, algorithm) };
        assert_eq!(find(list.as_bytes(), path.as_bytes()), Ok(expected), "{list:?}");
    }

    #[test]
    fn every_form_is_read() {
        let (a, b) = (digest('a', "SHA256"), digest('b', "SHA256"));
        for list in [
            format!("{a}  disk.img\n{b}  other.img\n"),
            format!("{a} *disk.img\r\n{b} *other.img\r\n"),
            format!("{b} other.img\n{a} disk.img"),
            format!("{}  ./disk.img\n", a.to_uppercase()),
            format!("{a}  x/disk.img\n{b}  y/disk.img\n"),
            format!("# disk.img: 5 bytes\nSHA256 (disk.img) = {a}\nSHA256 (other.img) = {b}\n"),
            format!("SHA2-256(disk.img)= {a}\n"),
            format!("\u{feff}{a}  disk.img\n"),
            format!("{a}\n"),
            format!("  {a}  \n"),
            format!("{a}  disk.img\n{a}  disk.img\n"),
            format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{a}  disk.img\n"),
        ] {
            finds(&list, "/images/x/disk.img", 'a', "SHA256");
        }
        for algorithm in ["MD5", "SHA1", "SHA512"] {
            let c = digest('c', algorithm);
            finds(&format!("{c}  disk.img"), "disk.img", 'c', algorithm);
            finds(&format!("{algorithm} (disk.img) = {c}"), "disk.img", 'c', algorithm);
            finds(&c, "disk.img", 'c', algorithm);
        }
    }

    #[test]
    fn the_strongest_digest_counts() {
        let line = |name| format!("{name} (disk.img) = {}\n", digest('d', name));
        let list = [line("SHA1"), line("SHA512"), line("SHA256"), line("MD5")].concat();
        finds(&list, "disk.img", 'd', "SHA512");
    }

    #[test]
    fn escaped_names_are_those_of_files() {
        let list = format!("\\{}  a\\\\b\\n\n", digest('e', "SHA256"));
        finds(&list, "/x/a\\b\n", 'e', "SHA256");
    }

    #[test]
    fn other_files_are_not_this_one() {
        let a = digest('a', "SHA256");
        for name in ["xdisk.img", "disk.img.gz", "img", "", "./", "/", "other/disk.img", "DISK.IMG"]
        {
            let list = format!("{a}  {name}\n{a}  filler\n");
            let error = find(list.as_bytes(), b"/images/x/disk.img").unwrap_err();
            assert!(matches!(error, ListError::NotListed(_)), "{name:?}: {error}");
        }
    }

    #[test]
    fn two_digests_of_one_file_are_ambiguous() {
        let (a, b) = (digest('a', "SHA256"), digest('b', "SHA256"));
        for list in [
            format!("{a}  disk.img\n{b}  disk.img\n"),
            format!("{a}  disk.img\nSHA256 (x/disk.img) = {b}\n"),
            format!("{a}\n{b}\n"),
        ] {
            let error = find(list.as_bytes(), b"/x/disk.img").unwrap_err();
            assert!(matches!(error, ListError::Ambiguous { algorithm: "SHA256", .. }), "{error}");
        }
    }

    #[test]
    fn what_has_no_digest_is_no_list() {
        let a = digest('a', "SHA256");
        for list in
            ["", "<html>", &a[1..], &format!("{a}0  disk.img"), "SHA256 (disk.img) = 12", ")("]
        {
            assert_eq!(find(list.as_bytes(), b"disk.img"), Err(ListError::NoList), "{list:?}");
        }
    }
}
