//! What `IMAGE/PATH` points to.

use super::url::Url;
use runtime::text;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
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
    Http(Url),
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
    /// Unknown, and why.
    Unknown(String),
}

impl Location {
    /// Reads a PATH: with `scheme://` in front it is remote, whether the scheme is known or not. Blanks before
    /// that don't count.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        let Some((scheme, rest)) = path.trim_start().split_once("://") else {
            return Self::Local(text::path(path));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(plain) {
            return Self::Local(text::path(path));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Url::parse(path).map_or_else(Self::Unknown, Self::Http),
            "ssh" => ssh(rest),
            scheme if HELPER_SCHEMES.contains(&scheme) && rest.contains(SHELL_WORDS) => {
                Self::Unknown(format!(
                    "has characters that OpenNebula's downloader can't be trusted with ({scheme}): leave out \", $, ` and \\"
                ))
            }
            scheme
                if HELPER_SCHEMES.contains(&scheme)
                    && userinfo(rest).is_some_and(|user| user.contains(':')) =>
            {
                Self::Unknown(format!(
                    "has a password, which OpenNebula's downloader would show to everybody in the list of processes ({scheme}): leave it out, or let the file be fetched by https or ssh"
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

impl Location {
    /// The file `name` in the directory of this one, where it has a directory.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Option<Self> {
        Some(match self {
            Self::Local(path) => Self::Local(path.parent()?.join(text::path(name))),
            Self::Http(url) => Self::Http(url.sibling(name)),
            Self::Ssh { host, path } => {
                let end = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
                let path = [&path[..end], &text::original_bytes(name)].concat();
                Self::Ssh { host: host.clone(), path }
            }
            Self::Helper { .. } | Self::Unknown(_) => return None,
        })
    }

    /// The path of the file on its machine, where that is known.
    #[must_use]
    pub fn file_path(&self) -> Option<Vec<u8>> {
        match self {
            Self::Local(path) => Some(path.as_os_str().as_bytes().to_vec()),
            Self::Http(url) => Some(url.path()),
            Self::Ssh { path, .. } => Some(path.clone()),
            Self::Helper { .. } | Self::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Http(url) => f.write_str(url.as_str()),
            Self::Ssh { host, path } => write!(f, "ssh://{host}:{}", String::from_utf8_lossy(path)),
            Self::Helper { scheme } => write!(f, "{scheme}://..."),
            Self::Unknown(_) => f.write_str("?"),
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
    if !host.contains('@') && path.split('/').next().is_some_and(names_a_host) {
        return Location::Unknown(
            "has a password, and ssh takes none in a URL: let oneadmin log in there with a key"
                .to_owned(),
        );
    }
    let host = host.replace(['[', ']'], "");
    Location::Ssh { host, path: text::original_bytes(path) }
}

/// Whether what looks like the beginning of a path is the end of a password, with a host behind it.
fn names_a_host(start: &str) -> bool {
    start.rsplit_once('@').is_some_and(|(_, host)| host.contains(':'))
}

/// A PATH as it may be shown: the password of a URL is left out, and so is what its query says of keys,
/// signatures and tokens, by which who has the URL gets what it names.
#[must_use]
pub fn without_password(path: &str) -> String {
    let Some((scheme, rest)) = path.split_once("://") else { return path.to_owned() };
    let (mut shown, rest) = match userinfo(rest) {
        Some(user) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            (format!("{scheme}://{name}:***"), &rest[user.len()..])
        }
        _ => (format!("{scheme}://"), rest),
    };
    let Some((resource, query)) = rest.split_once('?') else { return shown + rest };
    shown.push_str(resource);
    for (number, parameter) in query.split('&').enumerate() {
        shown.push(if number == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret(name) => {
                shown.push_str(name);
                shown.push_str("=***");
            }
            _ => shown.push_str(parameter),
        }
    }
    shown
}

/// What stands in front of the host in a URL, without its scheme. Where that has characters in it that
/// belong into it only encoded, the host begins behind the last `@`.
fn userinfo(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = authority.rsplit_once('@') {
        return Some(user);
    }
    let (_, port) = authority.split_once(':').filter(|_| !authority.starts_with('['))?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    rest.rsplit_once('@').map(|(user, _)| user).filter(|_| !is_port)
}

/// Whether a parameter of a query is as good as a password, by its name.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 9] =
        ["auth", "cred", "key", "pass", "pwd", "secret", "session", "sig", "token"];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_makes_a_location_remote_and_nothing_else_does() {
        for url in ["HTTPS://x/y", " http://x/y "] {
            assert!(matches!(Location::parse(url), Location::Http(_)), "{url}");
        }
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
    fn a_sibling_is_in_the_same_directory_whatever_its_name() {
        for (location, name, sibling) in [
            ("/images/disk.img", "SUMS", "/images/SUMS"),
            ("/images/disk.img", "../SUMS", "/images/../SUMS"),
            ("http://u:p@h/a/disk.img?x=/y", "SUMS", "http://u:p@h/a/SUMS"),
            ("http://h/a/disk.img", "b/SUMS?k=1", "http://h/a/b/SUMS?k=1"),
            ("http://h/a/disk.img", "1://evil/x#y z", "http://h/a/1://evil/x%23y%20z"),
            ("http://h/a/disk.img", "://evil", "http://h/a/://evil"),
            ("http://h", "SUMS", "http://h/SUMS"),
            ("ssh://h:/a/disk.img", "SUMS", "ssh://h:/a/SUMS"),
            ("ssh://h:disk.img", "SUMS", "ssh://h:SUMS"),
        ] {
            let found = Location::parse(location).sibling(name);
            assert_eq!(
                found.map(|found| found.to_string()).as_deref(),
                Some(sibling),
                "{location}"
            );
        }
        assert_eq!(Location::parse("s3://bucket/disk.img").sibling("SUMS"), None);
    }

    #[test]
    fn the_path_of_a_url_is_decoded_and_has_no_query() {
        let path = |text| Location::parse(text).file_path();
        assert_eq!(path("http://h/a%20b/c.img?x=/y"), Some(b"/a b/c.img".to_vec()));
        assert_eq!(path("ssh://h:/c.img"), Some(b"/c.img".to_vec()));
        assert_eq!(path("s3://h/c.img"), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("http://u:secret@h/p@q:r"), "http://u:***@h/p@q:r");
        assert_eq!(without_password("http://u@h/p:x"), "http://u@h/p:x");
        assert_eq!(without_password("/a:b@c"), "/a:b@c");
        for (url, shown) in [
            ("http://u:a/b@h/p", "http://u:***@h/p"),
            ("http://u:a?b#c@h/p", "http://u:***@h/p"),
            ("http://u:a@b@h/p", "http://u:***@h/p"),
            ("http://h:80/p@q", "http://h:80/p@q"),
            ("http://[::1]:80/p@q", "http://[::1]:80/p@q"),
            ("ssh://u:secret@h:/p", "ssh://u:***@h:/p"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn keys_and_signatures_in_a_query_are_not_shown() {
        for (url, shown) in [
            ("https://h/p?id=7&sig=x%3D&se=2", "https://h/p?id=7&sig=***&se=2"),
            (
                "https://u:p@h/p?X-Amz-Security-Token=x=y",
                "https://u:***@h/p?X-Amz-Security-Token=***",
            ),
            ("https://h/p?access_token=", "https://h/p?access_token="),
            ("https://h/p?token", "https://h/p?token"),
            ("https://h/p?v=1", "https://h/p?v=1"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn no_password_is_given_to_a_program_that_would_show_it() {
        for path in
            ["ftp://u:secret@h/p", "s3://a:b@c/d", "rsync://u:x/y@h/m", "ssh://u:secret@h:/p"]
        {
            assert!(matches!(Location::parse(path), Location::Unknown(_)), "{path}");
        }
        for path in ["ftp://u@h/p", "s3://bucket:80/x@y", "ssh://h:/a@b:c", "ssh://u@h:a@b:c"] {
            assert!(!matches!(Location::parse(path), Location::Unknown(_)), "{path}");
        }
    }
}
