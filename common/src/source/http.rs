//! Images from `http://` and `https://`: a download as one stream that survives broken connections, and
//! small pieces of a file for measuring it.

use super::location::without_password;
use base64::Engine as _;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

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
/// Piece of a file that is fetched at once to measure it, bytes.
const PIECE: u64 = 64 << 10;

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
    /// The server doesn't tell what is needed.
    #[error("can't be measured: {0}; give the image a SIZE (MiB)")]
    Unmeasurable(&'static str),
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
    let text = error.to_string();
    HttpError::Transport(match error {
        ureq::Error::HostNotFound => "its host name is not known; check the URL".to_owned(),
        ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            "it redirects without end; check the URL".to_owned()
        }
        ureq::Error::Timeout(_) => {
            format!("{text}; check that the server can be reached, or try again later")
        }
        _ if text.to_lowercase().contains("certificate") => format!(
            "its TLS certificate is not trusted ({text}); install the authority's certificate on this machine, or set TLS_VERIFY=no in the datastore's template"
        ),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "the server refuses the connection; check host and port".to_owned()
        }
        _ => format!("{text}; check the URL and the server"),
    })
}

/// A file on a web server.
#[derive(Debug)]
pub struct WebFile {
    agent: Agent,
    url: String,
    authorization: Option<String>,
}

impl WebFile {
    /// The file at `url`. Certificates are held against the system's authorities if `verify`.
    #[must_use]
    pub fn new(url: &str, verify: bool) -> Self {
        let (url, authorization) = split_credentials(url);
        let tls = TlsConfig::builder().disable_verification(!verify);
        let tls = if verify && url.get(..6).is_some_and(|s| s.eq_ignore_ascii_case("https:")) {
            tls.root_certs(system_roots())
        } else {
            tls
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls.build())
            .proxy(Proxy::try_from_env())
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(STALL))
            .timeout_recv_response(Some(STALL))
            .user_agent(concat!("ferrostore/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_redirects(10)
            .build()
            .new_agent();
        Self { agent, url, authorization }
    }

    fn get(
        &self,
        headers: &[(header::HeaderName, &str)],
        time: Option<Duration>,
    ) -> Result<Response<Body>, HttpError> {
        let mut request = self.agent.get(&self.url);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.config().timeout_global(time).build();
        request.call().map_err(|error| transport(&error))
    }

    /// Begins the download.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn download(self) -> Result<Download, HttpError> {
        let mut wait = BACK_OFF;
        let mut retries = RETRIES;
        let response = loop {
            let response = self.get(&[], None)?;
            let status = response.status();
            if status.is_success() {
                break response;
            }
            if !(status.is_server_error() || status.as_u16() == 429) || retries == 0 {
                return Err(HttpError::Status { status });
            }
            log::warn!("{}: the server says {status}; trying again", without_password(&self.url));
            std::thread::sleep(wait);
            (wait, retries) = (wait * 2, retries - 1);
        };
        let length = content_length(&response);
        let validator = Validator::of(&response);
        let body = reader(response);
        Ok(Download { file: self, body, position: 0, length, validator, retries: RETRIES, mark: 0 })
    }

    /// Prepares to fetch pieces of the file, all within `time`.
    #[must_use]
    pub fn pieces(self, time: Duration) -> Pieces {
        Pieces { file: self, until: Instant::now() + time, state: Mutex::default() }
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

fn percent_decoded(text: &str) -> Vec<u8> {
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

fn system_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::warn!("a certificate authority of this machine can't be used: {error}");
    }
    let roots: Vec<_> = found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    RootCerts::new_with_certs(&roots)
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

/// What tells one version of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Validator {
    etag: Option<String>,
    modified: Option<String>,
}

impl Validator {
    fn of(response: &Response<Body>) -> Self {
        Self { etag: text(response, header::ETAG), modified: text(response, header::LAST_MODIFIED) }
    }

    /// Whether `other` is surely the same version.
    fn confirms(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => one == other,
            _ => self.modified.is_some() && self.modified == other.modified,
        }
    }
}

/// A download under way. Where the connection breaks it goes on with the rest of the file, if the server
/// can do that and the file is still the same.
pub struct Download {
    file: WebFile,
    body: Box<dyn Read + Send>,
    position: u64,
    length: Option<u64>,
    validator: Validator,
    retries: u32,
    /// Position at the last break.
    mark: u64,
}

impl Download {
    fn resume(&mut self, reason: &io::Error) -> Result<(), HttpError> {
        let position = self.position;
        let broken = |why| HttpError::Broken {
            position,
            reason: crate::message::text::one_line(&reason.to_string()),
            why,
        };
        if self.validator.etag.is_none() && self.validator.modified.is_none() {
            return Err(broken(
                "the server gives neither ETag nor Last-Modified to go on by; try again",
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
            let response = match self.file.get(&[(header::RANGE, &range)], None) {
                Ok(response) if response.status().is_server_error() => continue,
                Ok(response) => response,
                Err(_) => continue,
            };
            if !self.validator.confirms(&Validator::of(&response)) {
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

/// Pieces of a file on a web server, fetched as they are asked for.
#[derive(Debug)]
pub struct Pieces {
    file: WebFile,
    until: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    offset: u64,
    bytes: Vec<u8>,
    length: Option<u64>,
    whole_only: bool,
}

impl Pieces {
    fn fetch(&self, state: &mut State, offset: u64, wanted: u64) -> Result<(), HttpError> {
        let time = self.until.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return Err(HttpError::Unmeasurable("the server is too slow"));
        }
        if state.whole_only && offset > 0 {
            return Err(HttpError::Unmeasurable("the server has no Range requests"));
        }
        let wanted = wanted.max(PIECE);
        // Near the end, what comes before is wanted next (the index of an xz file).
        let offset = match state.length {
            Some(length) if offset.saturating_add(wanted) > length => {
                offset.min(length.saturating_sub(wanted))
            }
            _ => offset,
        };
        let range = format!("bytes={offset}-{}", offset.saturating_add(wanted - 1));
        let response = self.file.get(&[(header::RANGE, &range)], Some(time))?;
        match response.status().as_u16() {
            206 => {
                let (start, length) = content_range(&response)
                    .ok_or(HttpError::Unmeasurable("the server's Content-Range is not valid"))?;
                if start != offset {
                    return Err(HttpError::Unmeasurable(
                        "the server answers with another part of the file",
                    ));
                }
                state.length = length;
            }
            200 => {
                state.whole_only = true;
                state.length = content_length(&response);
                if offset > 0 {
                    return Err(HttpError::Unmeasurable("the server has no Range requests"));
                }
            }
            // Nothing there: the file is empty, or ends before.
            416 => {
                state.length = content_range_of_nothing(&response).or(state.length);
                (state.offset, state.bytes) = (offset, Vec::new());
                return Ok(());
            }
            _ => return Err(HttpError::Status { status: response.status() }),
        }
        let mut bytes = Vec::new();
        reader(response)
            .take(wanted)
            .read_to_end(&mut bytes)
            .map_err(|error| HttpError::Transport(error.to_string()))?;
        (state.offset, state.bytes) = (offset, bytes);
        Ok(())
    }

    /// Up to `length` bytes at `offset`; fewer only where the file ends.
    ///
    /// # Errors
    /// [`HttpError`], as an I/O error.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let held = state.offset..state.offset + state.bytes.len() as u64;
        let end = offset.saturating_add(length as u64);
        let end = state.length.map_or(end, |all| end.min(all));
        if state.length.is_none() && state.bytes.is_empty() || offset < held.start || end > held.end
        {
            self.fetch(&mut state, offset, length as u64)?;
        }
        let from = (offset.saturating_sub(state.offset) as usize).min(state.bytes.len());
        let to = (from + length).min(state.bytes.len());
        Ok(state.bytes[from..to].to_vec())
    }

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// Where the server doesn't tell.
    pub fn length(&self) -> io::Result<u64> {
        self.read_at(0, 1)?;
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(state.length.ok_or(HttpError::Unmeasurable("the server doesn't tell its length"))?)
    }
}

/// `Content-Range: bytes */LENGTH`.
fn content_range_of_nothing(response: &Response<Body>) -> Option<u64> {
    text(response, header::CONTENT_RANGE)?.trim().strip_prefix("bytes */")?.parse().ok()
}
