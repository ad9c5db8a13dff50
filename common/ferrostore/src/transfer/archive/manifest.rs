//! The digests of an appliance's files (DSP0243 2.1.1, 5.1), in the forms in which they are met.

use super::{ArchiveError, plain_name};
use crate::transfer::digest::{hasher, hexadecimal};
use digest::DynDigest;
use std::collections::HashMap;

/// Largest manifest that is read, bytes.
pub(super) const LARGEST: usize = 1 << 20;

const ALGORITHMS: [&str; 3] = ["SHA1", "SHA256", "SHA512"];

/// The digests of a manifest, by the names of members.
#[derive(Debug, Default, Clone)]
pub(super) struct Manifest(HashMap<String, (&'static str, String)>);

impl Manifest {
    /// Reads `ALGORITHM(NAME)= DIGEST`, one a line; blanks, hyphens and cases don't matter. Names are relative to
    /// the folder of the manifest, `folder`.
    pub(super) fn parse(text: &[u8], folder: &str) -> Self {
        let text = String::from_utf8_lossy(text);
        Self(text.lines().filter_map(|line| entry(line, folder)).collect())
    }

    /// What a member must have.
    pub(super) fn expected(&self, name: &str) -> Option<Expected> {
        let (algorithm, digest) = self.0.get(name)?;
        Some(Expected { algorithm, digest: digest.clone(), name: name.to_owned() })
    }

    /// Tells of members that are not `inside`, which is no reason to refuse those that are.
    pub(super) fn warn_of_missing(&self, inside: impl Fn(&str) -> bool) {
        let names = self.missing(inside);
        if let Some(first) = names.first() {
            let more = names.len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            log::warn!(
                "the manifest of the appliance names what is not inside: {}{more}",
                runtime::text::shown(first)
            );
        }
    }

    fn missing(&self, inside: impl Fn(&str) -> bool) -> Vec<String> {
        let mut names: Vec<_> = self.0.keys().filter(|name| !inside(name)).cloned().collect();
        names.sort();
        names
    }
}

fn entry(line: &str, folder: &str) -> Option<(String, (&'static str, String))> {
    let (algorithm, rest) = line.split_once('(')?;
    let (name, digest) = rest.rsplit_once('=')?;
    let name = name.trim_end().strip_suffix(')')?;
    let algorithm: String =
        algorithm.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    let algorithm = ALGORITHMS.into_iter().find(|known| *known == algorithm)?;
    let digest = digest.trim().to_ascii_lowercase();
    Some((format!("{folder}{}", plain_name(name.as_bytes())), (algorithm, digest)))
}

/// A digest that a member must have.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    name: String,
    algorithm: &'static str,
    digest: String,
}

/// The digests of a member that is being read.
pub(super) struct Digesting {
    name: String,
    hashers: Vec<(&'static str, Box<dyn DynDigest + Send>)>,
    expected: Option<Expected>,
}

impl Digesting {
    /// The digest of `name` that is `expected`.
    pub(super) fn expecting(expected: Expected) -> Self {
        let hashers = vec![(expected.algorithm, hasher(expected.algorithm))];
        Self { name: expected.name.clone(), hashers, expected: Some(expected) }
    }

    /// All digests of `name` that a manifest may turn out to have.
    pub(super) fn all(name: &str) -> Self {
        let hashers = ALGORITHMS.map(|algorithm| (algorithm, hasher(algorithm))).into();
        Self { name: name.to_owned(), hashers, expected: None }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for (_, hasher) in &mut self.hashers {
            hasher.update(bytes);
        }
    }

    /// The digests, once all has been read.
    pub(super) fn finish(self) -> Digested {
        let digests = self.hashers.into_iter();
        let digests =
            digests.map(|(name, hasher)| (name, hexadecimal(&hasher.finalize()))).collect();
        Digested { name: self.name, digests, expected: self.expected }
    }
}

/// The digests of a member that has been read.
#[derive(Debug)]
pub(super) struct Digested {
    name: String,
    digests: Vec<(&'static str, String)>,
    expected: Option<Expected>,
}

impl Digested {
    /// Compares with what was expected.
    pub(super) fn verify(&self) -> Result<(), ArchiveError> {
        self.expected.as_ref().map_or(Ok(()), |expected| self.compare(expected))
    }

    /// Compares with what `manifest` says.
    pub(super) fn verify_by(&self, manifest: &Manifest) -> Result<(), ArchiveError> {
        manifest.expected(&self.name).map_or(Ok(()), |expected| self.compare(&expected))
    }

    fn compare(&self, expected: &Expected) -> Result<(), ArchiveError> {
        let Expected { algorithm, digest, .. } = expected;
        match self.digests.iter().find(|(name, _)| name == algorithm) {
            Some((_, actual)) if actual != digest => Err(ArchiveError::Digest {
                name: self.name.clone(),
                algorithm,
                actual: actual.clone(),
                expected: digest.clone(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_several_forms() {
        let text = "SHA1(a.ovf)= AB\r\nSHA256 (b (1).vmdk) = cd\n SHA-512(./c=d.vmdk)=  ef \nMD5(x)= 1\nrubbish\n";
        let manifest = Manifest::parse(text.as_bytes(), "vm/");
        let of = |name: &str| manifest.0.get(name).map(|(a, digest)| (*a, digest.as_str()));
        assert_eq!(of("vm/a.ovf"), Some(("SHA1", "ab")));
        assert_eq!(of("vm/b (1).vmdk"), Some(("SHA256", "cd")));
        assert_eq!(of("vm/c=d.vmdk"), Some(("SHA512", "ef")));
        assert_eq!(manifest.0.len(), 3);
        assert_eq!(manifest.missing(|name| name != "vm/a.ovf"), ["vm/a.ovf"]);
    }
}
