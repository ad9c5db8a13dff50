//! What `IMAGE/PATH` points to.

use crate::message::text;
use std::path::PathBuf;

/// Schemes that OpenNebula's downloader serves, where it is installed.
const HELPER_SCHEMES: [&str; 13] = [
    "s3",
    "rbd",
    "lxd",
    "restic",
    "restic+rbd",
    "rsync",
    "rsync+rbd",
    "netapp",
    "purefa",
    "onebex",
    "docker",
    "dockerfile",
    "ftp",
];

/// What a shell could take for more than a part of a name.
const SHELL_WORDS: fn(char) -> bool =
    |character| character.is_control() || matches!(character, '"' | '`' | '$' | '\\');

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A path on this machine.
    Local(PathBuf),
    /// `http://` or `https://`.
    Http,
    /// `ssh://[user@]host:path`.
    Ssh {
        /// `[user@]host`.
        host: String,
        /// Path on that host, not empty.
        path: Vec<u8>,
    },
    /// Something for OpenNebula's downloader.
    Helper {
        /// The scheme, in lower case.
        scheme: String,
    },
    /// What nobody knows, and why.
    Unknown(String),
}

impl Location {
    /// Reads a PATH: with `scheme://` in front it is remote, whether the scheme is known or not.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        let Some((scheme, rest)) = path.split_once("://") else {
            return Self::Local(text::path(path));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(plain) {
            return Self::Local(text::path(path));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Self::Http,
            "ssh" => ssh(rest),
            scheme if HELPER_SCHEMES.contains(&scheme) && rest.contains(SHELL_WORDS) => {
                Self::Unknown(format!(
                    "has characters that OpenNebula's downloader can't be trusted with ({scheme}): leave out \", $, ` and \\"
                ))
            }
            scheme if HELPER_SCHEMES.contains(&scheme) => {
                Self::Helper { scheme: scheme.to_owned() }
            }
            scheme => Self::Unknown(format!(
                "has the scheme {scheme}, which nothing here knows: give a file, or one of http, https, ssh, {}",
                HELPER_SCHEMES.join(", ")
            )),
        }
    }
}

fn ssh(rest: &str) -> Location {
    // In brackets an IPv6 address, whose colons are not the one before the path.
    let address = rest.split_once('@').map_or(0, |(user, _)| user.len() + 1);
    let bracketed = rest.get(address..).is_some_and(|host| host.starts_with('['));
    let split = if bracketed { rest.find(']').unwrap_or(0) } else { 0 };
    let Some(colon) = rest[split..].find(':').map(|at| at + split) else {
        return Location::Unknown("names no path: it must be ssh://[user@]host:path".to_owned());
    };
    let (host, path) = (&rest[..colon], &rest[colon + 1..]);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@[]:%".contains(c);
    let name = host.rsplit('@').next().unwrap_or_default();
    if name.is_empty() || host.starts_with('-') || name.starts_with('-') || !host.chars().all(plain)
    {
        return Location::Unknown(
            "names no usable host: it must be ssh://[user@]host:path, with letters, digits, '.', '_' and '-' in the names".to_owned(),
        );
    }
    if path.is_empty() {
        return Location::Unknown("names no path: it must be ssh://[user@]host:path".to_owned());
    }
    let host = host.replace(['[', ']'], "");
    Location::Ssh { host, path: text::original_bytes(path) }
}

/// A PATH as it may be shown: the password of a URL left out.
#[must_use]
pub fn without_password(path: &str) -> String {
    let Some((scheme, rest)) = path.split_once("://") else { return path.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@').map(|(user, _)| user) {
        Some(user) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:***{}", &rest[user.len()..])
        }
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_makes_a_location_remote_and_nothing_else_does() {
        assert_eq!(Location::parse("HTTPS://x/y"), Location::Http);
        let helper = Location::Helper { scheme: "restic+rbd".into() };
        assert_eq!(Location::parse("RESTIC+rbd://1"), helper);
        assert!(matches!(Location::parse("gopher://x"), Location::Unknown(_)));
        for path in ["/var/tmp/a://b", "relative", "://x", "a b://c", "http:/x"] {
            assert_eq!(Location::parse(path), Location::Local(path.into()));
        }
    }

    #[test]
    fn ssh_has_a_host_and_a_path_behind_a_colon() {
        let ssh = |host: &str, path: &[u8]| Location::Ssh { host: host.into(), path: path.into() };
        assert_eq!(Location::parse("ssh://one@h1:/a b"), ssh("one@h1", b"/a b"));
        assert_eq!(Location::parse("ssh://[::1]:rel:x"), ssh("::1", b"rel:x"));
        for wrong in [
            "ssh://host",
            "ssh://:path",
            "ssh://-oX:/p",
            "ssh://u@-x:/p",
            "ssh://a b:/p",
            "ssh://h:",
        ] {
            assert!(matches!(Location::parse(wrong), Location::Unknown(_)), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("http://u:secret@h/p@q:r"), "http://u:***@h/p@q:r");
        assert_eq!(without_password("http://u@h/p:x"), "http://u@h/p:x");
        assert_eq!(without_password("/a:b@c"), "/a:b@c");
    }
}
