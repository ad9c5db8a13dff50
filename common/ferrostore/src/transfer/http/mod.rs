//! Images from `http://` and `https://`: a download as one stream that survives broken connections, and
//! small pieces of a file for measuring it.

mod encoding;
mod pieces;
mod proxy;
mod small;
mod tls;

use super::location::without_password;
pub use super::url::Url;
use super::url::{origin, percent_decoded, redirected};
use base64::Engine as _;
use httpdate::parse_http_date;
pub use pieces::Pieces;
use proxy::{Connect, proxy_for};
use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body};

/// Time to reach a server.
const CONNECT: Duration = Duration::from_secs(15);
/// A server that sends nothing for so long has stalled.
const STALL: Duration = Duration::from_secs(60);
/// Attempts after the first one.
const RETRIES: u32 = 3;
/// Waiting time before the first retry; it doubles each time.
const BACK_OFF: Duration = Duration::from_millis(500);
/// So much has to come for a broken connection not to count with those before it, bytes.
const PROGRESS: u64 = 1 << 20;
/// Redirects that are followed.
const REDIRECTS: u32 = 10;

/// Why a URL could not be fetched. The text goes on after the URL.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server refuses.
    #[error("can't be fetched: the server says {status}; {}", remedy(*status))]
    Status {
        /// What it says.
        status: StatusCode,
    },
    /// No connection, or not this far.
    #[error("can't be fetched: {0}")]
    Transport(String),
    /// The server closed the connection without an answer.
    #[error(
        "can't be fetched: the server closed the connection without a response; try again later"
    )]
    HungUp,
    /// The connection broke and the download can't go on.
    #[error("can't be fetched: the connection broke after {position} bytes ({reason}), and {why}")]
    Broken {
        /// Bytes that had come.
        position: u64,
        /// How it broke.
        reason: String,
        /// Why it can't go on.
        why: &'static str,
    },
    /// The bytes that come are not those of the file.
    #[error(
        "can't be fetched: the server sends it with Content-Encoding {0}, which is not undone here; have the server send the file as it is"
    )]
    Encoding(String),
    /// A small file leads elsewhere.
    #[error(
        "can't be fetched: the server redirects to another host ({0}), which may be any mirror; give the URL there if it is the publisher's own"
    )]
    OtherHost(String),
    /// A small file is none.
    #[error("can't be used: it is larger than {0} MiB; check that it is the right file")]
    TooLarge(u64),
    /// The server doesn't tell what is needed.
    #[error("can't be measured: {0}; give the image a SIZE (MiB)")]
    Unmeasurable(&'static str),
}

impl HttpError {
    /// Whether trying again may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status { status } => status.is_server_error() || status.as_u16() == 429,
            Self::HungUp => true,
            _ => false,
        }
    }
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "check the user and the password in the URL, or the file's permissions there",
        404 | 410 => "check the URL",
        429 | 500.. => "try again later",
        _ => "check the URL and the server",
    }
}

impl From<HttpError> for io::Error {
    fn from(error: HttpError) -> Self {
        Self::other(error)
    }
}

fn transport(error: &ureq::Error) -> HttpError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let text = error.to_string();
    if let ureq::Error::Io(error) = error
        && (matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        ) || text.contains("disconnected"))
    {
        return HttpError::HungUp;
    }
    HttpError::Transport(match error {
        ureq::Error::HostNotFound => "its host name is not known; check the URL".to_owned(),
        ureq::Error::Timeout(_) => {
            format!("{text}; check that the server can be reached, or try again later")
        }
        _ if text.to_lowercase().contains("certificate") => untrusted(&text),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "the server refuses the connection; check host and port".to_owned()
        }
        _ => format!("{text}; check the URL and the server"),
    })
}

/// A certificate that is not trusted, by what TLS says of it.
fn untrusted(text: &str) -> String {
    let text = if tls::is_own_authority(text) {
        "the server has signed it itself, and it is not among the trusted ones"
    } else {
        text
    };
    let advice = if text.contains("expired") || text.contains("not valid yet") {
        "renew it on the server, or check the clock of this machine"
    } else if text.contains("not valid for") {
        "use a name in the URL that the certificate is for"
    } else {
        "save the certificate of its authority, or its own if it is self-signed, as /usr/local/share/ca-certificates/<name>.crt and run update-ca-certificates (Debian, Ubuntu), or in /etc/pki/ca-trust/source/anchors and run update-ca-trust (RHEL and kin)"
    };
    format!(
        "its TLS certificate is not trusted ({text}); {advice}, or set TLS_VERIFY=no in the datastore's template"
    )
}

/// A file on a web server.
#[derive(Debug, Clone)]
pub struct WebFile {
    agent: Agent,
    url: String,
    authorization: Option<String>,
    /// Whether only the server of its URL may have it, and none that a redirect leads to.
    stays: bool,
}

impl WebFile {
    /// The file at `url`. Certificates are held against the system's authorities if `verify`.
    #[must_use]
    pub fn new(url: &Url, verify: bool) -> Self {
        let (url, authorization) = split_credentials(url.as_str());
        let tls = TlsConfig::builder().disable_verification(!verify);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            // Not that of the environment, but that for each URL.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(STALL))
            .timeout_recv_response(Some(STALL))
            .user_agent(concat!("ferrostore/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        let agent = Agent::with_parts(agent, Connect::new(verify), DefaultResolver::default());
        Self { agent, url, authorization, stays: false }
    }

    fn get(
        &self,
        headers: &[(header::HeaderName, &str)],
        time: Option<Duration>,
    ) -> Result<Response<Body>, HttpError> {
        let mut url = self.url.clone();
        let mut authorization = self.authorization.clone();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(authorization) = &authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            let request = request.config().timeout_global(time).proxy(proxy_for(&url)).build();
            let response = request.call().map_err(|error| transport(&error))?;
            let target = response.headers().get(header::LOCATION);
            let (301..=303 | 307 | 308, Some(target)) = (response.status().as_u16(), target) else {
                return Ok(response);
            };
            let (next, own) = split_credentials(&redirected(&url, target.as_bytes()));
            if self.stays && !small::same_server(&url, &next) {
                return Err(HttpError::OtherHost(without_password(origin(&next))));
            }
            // A password is for the server that it was given for.
            authorization = own.or(authorization.filter(|_| origin(&next) == origin(&url)));
            url = next;
        }
        Err(HttpError::Transport("it redirects without end; check the URL".to_owned()))
    }

    /// Begins the download.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn download(self) -> Result<Download, HttpError> {
        self.download_from(0)
    }

    /// Begins the download of what comes from byte `position` on.
    ///
    /// # Errors
    /// [`HttpError`]; [`HttpError::Unmeasurable`] where the server has no Range requests.
    pub fn download_from(self, position: u64) -> Result<Download, HttpError> {
        let mut wait = BACK_OFF;
        let mut retries = RETRIES;
        let range = format!("bytes={position}-");
        let range = [(header::RANGE, range.as_str())];
        let headers = if position > 0 { &range[..] } else { &[] };
        let response = loop {
            let error = match self.get(headers, None) {
                Ok(response) if response.status().is_success() => break response,
                Ok(response) => HttpError::Status { status: response.status() },
                Err(error) => error,
            };
            if !error.may_pass() || retries == 0 {
                return Err(error);
            }
            log::warn!("fetching {} failed: it {error}; trying again", without_password(&self.url));
            std::thread::sleep(wait);
            (wait, retries) = (wait * 2, retries - 1);
        };
        let mut length = content_length(&response);
        let validator = Validator::of(&response);
        let mut magic = encoding::expected(&response)?;
        if position > 0 {
            let (start, all) = content_range(&response).unwrap_or((0, None));
            if start != position {
                return Err(HttpError::Unmeasurable("the server has no Range requests"));
            }
            (length, magic) = (all, None);
        }
        let body = encoding::checked(reader(response), magic)?;
        let mark = position;
        Ok(Download { file: self, body, position, length, validator, retries: RETRIES, mark })
    }

    /// Prepares to fetch pieces of the file, all before `until`.
    #[must_use]
    pub fn pieces(self, until: Instant) -> Pieces {
        Pieces::new(self, until)
    }
}

/// The URL without user and password, and the header that carries these.
fn split_credentials(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, host)) = rest[..end].rsplit_once('@') else { return (url.to_owned(), None) };
    let encoded = base64::engine::general_purpose::STANDARD.encode(percent_decoded(user));
    (format!("{scheme}://{host}{}", &rest[end..]), Some(format!("Basic {encoded}")))
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn content_length(response: &Response<Body>) -> Option<u64> {
    text(response, header::CONTENT_LENGTH)?.trim().parse().ok()
}

fn reader(response: Response<Body>) -> Box<dyn Read + Send> {
    Box::new(response.into_body().into_with_config().limit(u64::MAX).reader())
}

/// What surely tells one version of a file from any other (a strong validator, RFC 9110, 8.8.1).
#[derive(Debug, PartialEq, Eq)]
enum Validator {
    /// `ETag`.
    Tag(String),
    /// `Last-Modified`.
    Modified(SystemTime),
}

impl Validator {
    fn of(response: &Response<Body>) -> Option<Self> {
        let [tag, modified, date] =
            [header::ETAG, header::LAST_MODIFIED, header::DATE].map(|name| text(response, name));
        Self::from_headers(tag.as_deref(), modified.as_deref(), date.as_deref())
    }

    /// A weak tag may stay as it is while bytes change, and so may a time in the second in which the server gave it
    /// (8.8.2.2). Where there is a tag, the time does not count (13.1.5).
    fn from_headers(tag: Option<&str>, modified: Option<&str>, date: Option<&str>) -> Option<Self> {
        if let Some(tag) = tag {
            return tag.starts_with('"').then(|| Self::Tag(tag.to_owned()));
        }
        let modified = parse_http_date(modified?).ok()?;
        // An answer without a date is as old as it is here (6.6.1).
        let date =
            date.map_or_else(|| Some(SystemTime::now()), |date| parse_http_date(date).ok())?;
        (date >= modified + Duration::from_secs(1)).then_some(Self::Modified(modified))
    }
}

/// A download under way. Where the connection breaks it goes on with the rest of the file, if the server
/// can do that and the file is still the same.
pub struct Download {
    file: WebFile,
    body: Box<dyn Read + Send>,
    position: u64,
    length: Option<u64>,
    validator: Option<Validator>,
    retries: u32,
    /// Position at the last break.
    mark: u64,
}

impl Download {
    fn resume(&mut self, reason: &io::Error) -> Result<(), HttpError> {
        let position = self.position;
        let broken = |why| HttpError::Broken {
            position,
            reason: runtime::text::one_line(&reason.to_string()),
            why,
        };
        if self.validator.is_none() {
            return Err(broken(
                "the server gives neither a strong ETag nor a Last-Modified before its Date to go on by; try again",
            ));
        }
        if position >= self.mark + PROGRESS {
            self.retries = RETRIES;
        }
        self.mark = position;
        let range = format!("bytes={position}-");
        loop {
            if self.retries == 0 {
                return Err(broken("that happened too often; try again later"));
            }
            std::thread::sleep(BACK_OFF * 2_u32.pow(RETRIES - self.retries));
            self.retries -= 1;
            log::warn!(
                "the connection broke after {position} bytes ({reason}); going on from there"
            );
            crate::record::resumed();
            let response = match self.file.get(&[(header::RANGE, &range)], None) {
                Ok(response) if response.status().is_server_error() => continue,
                Ok(response) => response,
                Err(_) => continue,
            };
            if response.status().is_client_error() && response.status().as_u16() != 416 {
                return Err(HttpError::Status { status: response.status() });
            }
            if Validator::of(&response) != self.validator {
                return Err(broken("the file has changed on the server since; try again"));
            }
            match response.status().as_u16() {
                206 => {
                    if content_range(&response).is_none_or(|(start, _)| start != position) {
                        return Err(broken(
                            "the server answers with another part of the file; try again",
                        ));
                    }
                    self.body = reader(response);
                }
                200 => {
                    // No ranges: all of it again, of which the first part is known.
                    if self.length.is_some() && content_length(&response) != self.length {
                        return Err(broken(
                            "the file has another length on the server now; try again",
                        ));
                    }
                    self.body = reader(response);
                    let skipped = io::copy(&mut (&mut self.body).take(position), &mut io::sink());
                    if skipped.ok() != Some(position) {
                        continue;
                    }
                }
                _ => return Err(HttpError::Status { status: response.status() }),
            }
            return Ok(());
        }
    }
}

impl Download {
    /// Length of the file in bytes, where the server says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let broken = match self.body.read(buffer) {
                Ok(0)
                    if !buffer.is_empty() && self.length.is_some_and(|all| self.position < all) =>
                {
                    io::Error::from(io::ErrorKind::UnexpectedEof)
                }
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => error,
            };
            self.resume(&broken)?;
        }
    }
}

/// `Content-Range: bytes START-END/LENGTH`: start, and length where it is told.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let value = text(response, header::CONTENT_RANGE)?;
    let (range, length) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, length.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let (url, header) = split_credentials("http://tom:a%40b@host/p@q");
        assert_eq!(url, "http://host/p@q");
        assert_eq!(header.as_deref(), Some("Basic dG9tOmFAYg=="));
    }

    #[test]
    fn only_strong_validators_count() {
        const MAY: &str = "Wed, 20 May 2020 10:00:00 GMT";
        const LATER: &str = "Wed, 20 May 2020 10:00:01 GMT";
        let of = Validator::from_headers;
        let tag = Some(Validator::Tag("\"1\"".to_owned()));
        assert_eq!(of(Some("\"1\""), None, None), tag);
        assert_eq!(of(Some("\"1\""), Some(MAY), Some(MAY)), tag);
        assert_ne!(of(Some("\"2\""), Some(MAY), Some(LATER)), tag);
        for weak in ["W/\"1\"", "1", ""] {
            assert_eq!(of(Some(weak), Some(MAY), Some(LATER)), None, "{weak}");
        }
        let modified = of(None, Some(MAY), Some(LATER));
        assert!(modified.is_some());
        assert_eq!(of(None, Some(MAY), None), modified);
        assert_ne!(of(None, Some(LATER), None), modified);
        for (modified, date) in [(MAY, MAY), (LATER, MAY), (MAY, "soon"), ("once", LATER)] {
            assert_eq!(of(None, Some(modified), Some(date)), None, "{modified}, {date}");
        }
        assert_eq!(of(None, None, Some(LATER)), None);
    }
}
