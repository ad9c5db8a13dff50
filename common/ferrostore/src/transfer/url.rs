//! URLs as users and servers write them, made into what may stand in a request (RFC 3986), as curl does it.

use runtime::text::original_bytes;
use std::fmt::Write as _;

/// The URL of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// What a server is asked for, credentials included.
    text: String,
    /// What followed a `#`, which no server is told.
    fragment: Option<String>,
}

impl Url {
    /// Reads `text`, which begins with `http://` or `https://`; blanks around it don't count.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        for (place, character) in (1..).zip(text.chars()) {
            if character.is_whitespace() {
                return Err(format!(
                    "has a blank at character {place}, which no URL can have: write %20 for it"
                ));
            }
            if character.is_control() {
                return Err(format!(
                    "has the control character {character:?} at character {place}, which no URL can have: leave it out"
                ));
            }
        }
        let (resource, fragment) = match text.split_once('#') {
            Some((resource, fragment)) => (resource, Some(fragment.to_owned())),
            None => (text, None),
        };
        check_host(resource)?;
        Ok(Self { text: without_dots(&encoded(&original_bytes(resource))), fragment })
    }

    /// What a server is asked for, credentials included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The file `name` in the directory of this one. A `#` in the name is a part of it.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        // Whatever is in it, it is no other server.
        let name = format!("./{}", name.replace('#', "%23"));
        Self { text: redirected(&self.text, &original_bytes(&name)), fragment: None }
    }

    /// The path of the file on its server.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let path = &self.text[origin(&self.text).len()..];
        percent_decoded(path.split('?').next().unwrap_or_default())
    }

    /// What followed a `#`.
    #[must_use]
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref().filter(|fragment| !fragment.is_empty())
    }
}

/// The bytes that a part of a URL stands for.
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

fn check_host(url: &str) -> Result<(), String> {
    let start = origin(url).rfind(['/', '@']).map_or(0, |at| at + 1);
    let host = &origin(url)[start..];
    if host.is_empty() || host.starts_with(':') {
        return Err("names no host: it must be http://host/path or https://host/path".to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
    let Some((at, character)) = host.char_indices().find(|&(_, character)| !plain(character))
    else {
        return Ok(());
    };
    let place = url[..start + at].chars().count() + 1;
    Err(format!(
        "has {character:?} at character {place}, in the name of the host: write names with other letters than a to z in their ASCII form (xn--...)"
    ))
}

/// Scheme, host and port of a URL, and its credentials where it has some.
pub(super) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// A URL with the characters encoded that can't stand in one. What is encoded already stays so.
fn encoded(url: &[u8]) -> String {
    let mut text = String::with_capacity(url.len());
    for &byte in url {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 0x7f.. => {
                let _ = write!(text, "%{byte:02X}");
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

/// A URL without `.` and `..` in its path (RFC 3986, 5.2.4).
fn without_dots(url: &str) -> String {
    let (before, rest) = url.split_at(origin(url).len());
    let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." | ".." => {
                if segment.len() != 1 && !segment.eq_ignore_ascii_case("%2e") {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let path: String = kept.iter().flat_map(|segment| ["/", segment]).collect();
    format!("{before}{path}{query}")
}

/// Where a redirect from `url` to `target` leads (RFC 3986, 5.2, for what servers send, blanks and all).
pub(super) fn redirected(url: &str, target: &[u8]) -> String {
    let target = encoded(target.trim_ascii());
    let scheme = url.split(':').next().unwrap_or_default();
    let whole = if target.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
        target
    } else if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{}{target}", origin(url))
    } else {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        if target.starts_with('?') {
            return format!("{path}{target}");
        }
        let directory = path.rfind('/').filter(|&at| at >= origin(url).len());
        format!("{}/{target}", directory.map_or(origin(url), |at| &path[..at]))
    };
    without_dots(&whole)
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn redirects_lead_where_the_server_means() {
        for (target, leads_to) in [
            (&b"https://other/x"[..], "https://other/x"),
            (b"//other/x", "http://other/x"),
            (b"/x?y", "http://host:1/x?y"),
            (b"x", "http://host:1/a/x"),
            (b"../x", "http://host:1/x"),
            (b"./x/../../y/.", "http://host:1/y/"),
            (b"?z", "http://host:1/a/b?z"),
            (b"/my image (1).raw", "http://host:1/my%20image%20(1).raw"),
            (b" /x\t", "http://host:1/x"),
            (b"/\xc3\xbc%20\xfc", "http://host:1/%C3%BC%20%FC"),
            (b"/login?to=http://other/", "http://host:1/login?to=http://other/"),
        ] {
            assert_eq!(redirected("http://host:1/a/b?c=/d", target), leads_to);
        }
        assert_eq!(redirected("http://host", b"x"), "http://host/x");
    }

    #[test]
    fn blanks_around_a_url_dont_count_and_others_are_named_with_their_place() {
        let url = Url::parse(" \thttp://h/x\n").unwrap();
        assert_eq!((url.as_str(), url.fragment()), ("http://h/x", None));
        let error = Url::parse("http://h/my image.raw").unwrap_err();
        assert!(error.contains("blank at character 12") && error.contains("%20"), "{error}");
        let error = Url::parse("http://h/a\u{7}b").unwrap_err();
        assert!(error.contains("character 11"), "{error}");
        for (url, place) in [("http://h\u{fc}st/", "9"), ("http://u:p@a!b/", "13")] {
            let error = Url::parse(url).unwrap_err();
            assert!(error.contains(&format!("character {place},")), "{error}");
        }
        for url in ["http://", "http:///x", "http://u@/x", "http://:80/"] {
            assert!(Url::parse(url).unwrap_err().contains("no host"), "{url}");
        }
    }

    #[test]
    fn what_a_url_cannot_hold_is_encoded_and_what_follows_a_hash_is_kept() {
        for (given, text, fragment) in [
            ("http://h/ü{1}|\"x\"", "http://h/%C3%BC%7B1%7D%7C%22x%22", None),
            ("http://h/a%20b?q=[1]", "http://h/a%20b?q=[1]", None),
            ("http://h/x.ova#disk%202", "http://h/x.ova", Some("disk%202")),
            ("http://h/x#", "http://h/x", None),
            ("https://u:p%23@[::1]:8/../a/./b", "https://u:p%23@[::1]:8/a/b", None),
            ("http://h", "http://h", None),
        ] {
            let url = Url::parse(given).unwrap();
            assert_eq!((url.as_str(), url.fragment()), (text, fragment));
        }
    }
}
