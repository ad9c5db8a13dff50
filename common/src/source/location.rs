//! What `IMAGE/PATH` points to.

use crate::message::text;
use std::path::PathBuf;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A path on this machine.
    Local(PathBuf),
    /// Something with a scheme (`http://...`), which is its first part.
    Remote {
        /// The scheme, in lower case.
        scheme: String,
    },
}

impl Location {
    /// Reads a PATH: with `scheme://` in front it is remote, whether the scheme is known or not.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        if let Some((scheme, _)) = path.split_once("://")
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        {
            return Self::Remote { scheme: scheme.to_ascii_lowercase() };
        }
        Self::Local(text::path(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_makes_a_location_remote_and_nothing_else_does() {
        for (path, scheme) in [("http://x/y", "http"), ("RESTIC+rbd://1", "restic+rbd")] {
            assert_eq!(Location::parse(path), Location::Remote { scheme: scheme.into() });
        }
        for path in ["/var/tmp/a://b", "relative", "://x", "a b://c", "http:/x"] {
            assert_eq!(Location::parse(path), Location::Local(path.into()));
        }
    }
}
