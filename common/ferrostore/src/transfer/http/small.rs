//! Small files, which are taken whole: checksum lists and signatures.

use super::super::url::{Url, origin};
use super::{BACK_OFF, HttpError, WebFile, content_length, encoding, reader, split_credentials};
use std::io::Read as _;
use std::time::{Duration, Instant};

/// Attempts in all.
const ATTEMPTS: u32 = 3;

impl WebFile {
    /// Another file, over the same connection where it is on the same server. Only that server may have it.
    #[must_use]
    pub fn beside(&self, url: &Url) -> Self {
        let (url, authorization) = split_credentials(url.as_str());
        Self { agent: self.agent.clone(), url, authorization, stays: true }
    }

    /// All of the file, which must not have more than `largest` MiB and be there before `until`.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn whole_small(&self, largest: u64, until: Instant) -> Result<Vec<u8>, HttpError> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match self.small_once(largest, until) {
                Err(error) if attempts > 0 && error.may_pass() && Instant::now() < until => {
                    std::thread::sleep(BACK_OFF);
                }
                result => return result,
            }
        }
    }

    fn small_once(&self, largest: u64, until: Instant) -> Result<Vec<u8>, HttpError> {
        const SHORTEST: Duration = Duration::from_secs(1);
        let time = until.saturating_duration_since(Instant::now()).max(SHORTEST);
        let response = self.get(&[], Some(time))?;
        if !response.status().is_success() {
            return Err(HttpError::Status { status: response.status() });
        }
        let (length, limit) = (content_length(&response), largest << 20);
        if length.is_some_and(|length| length > limit) {
            return Err(HttpError::TooLarge(largest));
        }
        let magic = encoding::expected(&response)?;
        let mut bytes = Vec::new();
        let body = encoding::checked(reader(response), magic)?;
        let read = body.take(limit + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > limit {
            return Err(HttpError::TooLarge(largest));
        }
        let short = length.is_some_and(|length| length != bytes.len() as u64);
        match read {
            Ok(_) if !short => Ok(bytes),
            Ok(_) => Err(HttpError::HungUp),
            Err(error) => {
                let reason = runtime::text::one_line(&error.to_string());
                Err(HttpError::Transport(format!("{reason}; try again later")))
            }
        }
    }
}

/// Whether a redirect from one URL to the other stays on the server, or goes to the same host by https instead of http.
pub(super) fn same_server(one: &str, other: &str) -> bool {
    let is_upgrade = || {
        let (plain, secure) = (one.strip_prefix("http://"), other.strip_prefix("https://"));
        let host = |url| authority(url).map(|(host, port)| (host.to_ascii_lowercase(), port));
        match (plain.and(host(one)), secure.and(host(other))) {
            (Some((one, None | Some("80"))), Some((other, None | Some("443")))) => one == other,
            _ => false,
        }
    };
    origin(one).eq_ignore_ascii_case(origin(other)) || is_upgrade()
}

/// Host and port of a URL without credentials.
fn authority(url: &str) -> Option<(&str, Option<&str>)> {
    let (_, authority) = origin(url).split_once("://")?;
    Some(match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_may_only_stay_on_its_server() {
        for (one, other) in [
            ("http://h/a", "http://h/b"),
            ("https://H/a", "https://h/b?x"),
            ("http://h:80/a", "https://h/a"),
            ("http://[::1]/a", "https://[::1]:443/a"),
        ] {
            assert!(same_server(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("http://h/a", "http://h.example/a"),
            ("http://h/a", "http://h:8080/a"),
            ("http://h:8080/a", "https://h:8443/a"),
            ("https://h/a", "http://h/a"),
            ("http://h/a", "http://other/h/a"),
        ] {
            assert!(!same_server(one, other), "{one} {other}");
        }
    }
}
