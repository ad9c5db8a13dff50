//! A web server with faults to order: HTTP/1.1, plain or TLS, keep-alive, ranges.

use crate::wire::{self, Request, Wire};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A server on a port of its own on the loopback, until dropped. It writes down what it is asked.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    pages: Mutex<HashMap<String, Arc<Served>>>,
    requests: Mutex<Vec<Request>>,
    stopped: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Served {
    page: Page,
    count: AtomicUsize,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing.
    Fine,
    /// The answer is this status code and a page that says so.
    Status(u16),
    /// The connection breaks after so many bytes of the body.
    CutAfter(u64),
    /// Nothing more comes after so many bytes of the body, but the connection stays.
    StallAfter(u64),
    /// The connection breaks before an answer.
    HangUp,
}

/// A file as the server hands it out: well, unless told otherwise.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a habit of a server
pub struct Page {
    file: Arc<File>,
    /// The file that takes the place of the first one after a request.
    later: Option<Arc<File>>,
    ranges: bool,
    /// What every request for a range is answered by, without a length.
    refuses_ranges: Option<u16>,
    chunked: bool,
    told: bool,
    claimed: Option<u64>,
    validators: (bool, bool),
    faults: Vec<Fault>,
    always: Fault,
    password: Option<String>,
    redirect: Option<String>,
    rate: Option<u64>,
    wait: Duration,
    headers: Vec<(String, String)>,
}

impl Page {
    /// A page that is this file, even if the file is deleted meanwhile.
    pub fn of(path: impl AsRef<Path>) -> Self {
        Self {
            file: open(path.as_ref()),
            later: None,
            ranges: true,
            refuses_ranges: None,
            chunked: false,
            told: true,
            claimed: None,
            validators: (true, true),
            faults: Vec::new(),
            always: Fault::Fine,
            password: None,
            redirect: None,
            rate: None,
            wait: Duration::ZERO,
            headers: Vec::new(),
        }
    }

    /// A page that sends clients to another URL.
    pub fn redirect(to: impl Into<String>) -> Self {
        Self { redirect: Some(to.into()), ..Self::of("/dev/null") }
    }

    /// Requests for a range get the whole file.
    pub fn without_ranges(mut self) -> Self {
        self.ranges = false;
        self
    }

    /// Requests for a range get an error, as dynamic pages and some caches answer them.
    pub fn refusing_ranges(self) -> Self {
        self.refusing_ranges_with(416)
    }

    /// Requests for a range get this status.
    pub fn refusing_ranges_with(mut self, status: u16) -> Self {
        self.refuses_ranges = Some(status);
        self
    }

    /// No `Content-Length`: the body ends with the connection.
    pub fn without_length(mut self) -> Self {
        self.told = false;
        self
    }

    /// No `Content-Length`: the body comes in chunks.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// A wrong `Content-Length`; the connection ends after what there is.
    pub fn claiming(mut self, length: u64) -> Self {
        self.claimed = Some(length);
        self
    }

    /// Neither `ETag` nor `Last-Modified`.
    pub fn without_validators(mut self) -> Self {
        self.validators = (false, false);
        self
    }

    /// Only `Last-Modified`.
    pub fn without_etag(mut self) -> Self {
        self.validators = (false, true);
        self
    }

    /// After the first request it is another file.
    pub fn changing_to(mut self, path: impl AsRef<Path>) -> Self {
        self.later = Some(open(path.as_ref()));
        self
    }

    /// The first requests go wrong: the first one like this, the one after it like the next call
    /// of this method says.
    pub fn first(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Every request (after the first ones) goes wrong like this.
    pub fn always(mut self, fault: Fault) -> Self {
        self.always = fault;
        self
    }

    /// Asks for `user:password`.
    pub fn with_password(mut self, credentials: &str) -> Self {
        self.password = Some(credentials.to_owned());
        self
    }

    /// Sends so many bytes per second.
    pub fn at_rate(mut self, rate: u64) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Thinks for so long before each answer.
    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// One more header in each answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

fn open(path: &Path) -> Arc<File> {
    Arc::new(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

impl Web {
    /// A server for `http://`, which is also a proxy.
    pub fn new() -> Self {
        Self::start(None)
    }

    /// A server for `https://`.
    pub fn secure(certificate: ServerConfig) -> Self {
        Self::start(Some(Arc::new(certificate)))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            pages: Mutex::default(),
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
            tls,
            address,
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else { continue };
                // A client that goes away is no concern of the server's.
                thread::spawn(move || shared.converse(stream));
            }
        });
        Self { address, state }
    }

    /// Hands out a file under its own name; its URL.
    pub fn serve(&self, path: impl AsRef<Path>) -> String {
        let name = path.as_ref().file_name().unwrap().to_str().unwrap().to_owned();
        self.page(&name, Page::of(path))
    }

    /// Hands out a page; its URL.
    pub fn page(&self, name: &str, page: Page) -> String {
        let served = Arc::new(Served { page, count: AtomicUsize::new(0) });
        self.state.pages.lock().unwrap().insert(format!("/{name}"), served);
        self.url(name)
    }

    /// The URL of a page, whether there is one or not.
    pub fn url(&self, name: &str) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{name}", self.address)
    }

    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it was asked, in this order, since it was asked this the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.requests.lock().unwrap())
    }
}

impl Default for Web {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut wire = Wire::new(stream, self.tls.clone())?;
        while let Some(request) = wire.request()? {
            if request.method == "CONNECT" {
                self.requests.lock().unwrap().push(request.clone());
                return self.tunnel(wire, &request.target);
            }
            let path = wire::path_of(&request.target);
            let served = self.pages.lock().unwrap().get(&path).cloned();
            self.requests.lock().unwrap().push(request.clone());
            let goes_on = match served {
                None => status(&mut wire, 404, &[])?,
                Some(served) => {
                    let turn = served.count.fetch_add(1, Ordering::Relaxed);
                    self.answer(&mut wire, &request, &served.page, turn)?
                }
            };
            if !goes_on {
                return wire.close();
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn answer(
        &self,
        wire: &mut Wire,
        request: &Request,
        page: &Page,
        turn: usize,
    ) -> io::Result<bool> {
        self.pause(page.wait);
        let fault = page.faults.get(turn).copied().unwrap_or(page.always);
        match fault {
            Fault::Status(code) => return status(wire, code, &[]),
            Fault::HangUp => {
                wire.cut();
                return Ok(false);
            }
            _ => {}
        }
        if let Some(password) = &page.password
            && !request.presents(password)
        {
            return status(wire, 401, &[("WWW-Authenticate", "Basic realm=\"images\"")]);
        }
        if let Some(to) = &page.redirect {
            return status(wire, 302, &[("Location", to)]);
        }
        if let Some(code) = page.refuses_ranges.filter(|_| request.header("range").is_some()) {
            return status(wire, code, &[]);
        }
        let file = page.later.as_ref().filter(|_| turn > 0).unwrap_or(&page.file);
        let length = file.metadata()?.len();
        let version = u8::from(page.later.is_some() && turn > 0);
        let etag = format!("\"version-{version}\"");
        let range = request
            .range(length)
            .filter(|_| page.ranges && request.header("if-range").is_none_or(|tag| tag == etag));
        let mut head: Vec<u8> = Vec::new();
        let body = match range {
            Some(range) if range.start >= length => {
                let all = format!("bytes */{length}");
                return status(wire, 416, &[("Content-Range", &all)]);
            }
            Some(range) => {
                let last = range.end - 1;
                head.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
                write!(head, "Content-Range: bytes {}-{last}/{length}\r\n", range.start)?;
                range
            }
            None => {
                head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
                0..length
            }
        };
        if page.validators.0 {
            write!(head, "ETag: {etag}\r\n")?;
        }
        if page.validators.1 {
            write!(head, "Last-Modified: Wed, 2{version} May 2020 10:00:00 GMT\r\n")?;
        }
        for (name, value) in &page.headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        let keep_alive = page.told && page.claimed.is_none();
        if page.chunked {
            head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        } else if page.told {
            let told = page.claimed.unwrap_or(body.end - body.start);
            write!(head, "Content-Length: {told}\r\n")?;
        }
        let end: &[u8] = if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" };
        wire.write_all(&[&head, end].concat())?;
        if request.method == "HEAD" {
            return Ok(keep_alive);
        }
        self.send(wire, page, file, body, fault).map(|whole| whole && keep_alive)
    }

    /// Sends the body; whether all of it.
    fn send(
        &self,
        wire: &mut Wire,
        page: &Page,
        file: &File,
        body: std::ops::Range<u64>,
        fault: Fault,
    ) -> io::Result<bool> {
        let most = match fault {
            Fault::CutAfter(bytes) | Fault::StallAfter(bytes) => bytes,
            _ => u64::MAX,
        };
        let started = Instant::now();
        let mut buffer = vec![0; 64 << 10];
        let (mut position, mut sent) = (body.start, 0_u64);
        while position < body.end && sent < most {
            let piece = (body.end - position).min(most - sent).min(buffer.len() as u64);
            // A tenth of a second's worth at a time.
            let piece = page.rate.map_or(piece, |rate| piece.min((rate / 10).max(1)));
            let buffer = &mut buffer[..piece as usize];
            file.read_exact_at(buffer, position)?;
            if page.chunked {
                write!(wire, "{piece:x}\r\n")?;
            }
            wire.write_all(buffer)?;
            if page.chunked {
                wire.write_all(b"\r\n")?;
            }
            wire.flush()?;
            (position, sent) = (position + piece, sent + piece);
            self.note_sent(wire.number(), sent);
            if let Some(rate) = page.rate {
                let due = Duration::from_micros(sent.saturating_mul(1_000_000) / rate);
                self.pause(due.saturating_sub(started.elapsed()));
            }
        }
        match fault {
            Fault::CutAfter(bytes) if sent == bytes => {
                wire.cut();
                return Ok(false);
            }
            Fault::StallAfter(bytes) if sent == bytes => {
                wire.flush()?;
                while !self.stopped.load(Ordering::Relaxed) && !wire.is_gone() {
                    thread::sleep(Duration::from_millis(50));
                }
                return Ok(false);
            }
            _ => {}
        }
        if page.chunked {
            wire.write_all(b"0\r\n\r\n")?;
        }
        wire.flush()?;
        Ok(true)
    }

    /// Writes down how much of the body of the last request on connection `number` has gone out.
    fn note_sent(&self, number: usize, sent: u64) {
        let mut requests = self.requests.lock().unwrap();
        if let Some(request) = requests.iter_mut().rev().find(|r| r.connection == number) {
            request.sent = sent;
        }
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.stopped.load(Ordering::Relaxed) {
            thread::sleep((until - Instant::now()).min(Duration::from_millis(50)));
        }
    }

    /// What a proxy does: bytes go through. An unknown name leads to this server.
    fn tunnel(&self, mut wire: Wire, target: &str) -> io::Result<()> {
        let address = target.parse().unwrap_or(self.address);
        let other = TcpStream::connect(address)?;
        wire.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        wire.flush()?;
        wire.join(other)
    }
}

/// Answers with a status and a small page; the connection goes on.
fn status(wire: &mut Wire, code: u16, headers: &[(&str, &str)]) -> io::Result<bool> {
    let reason = match code {
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        other => return Err(io::Error::new(ErrorKind::InvalidInput, other.to_string())),
    };
    let body = format!("<html><h1>{code} {reason}</h1></html>\n");
    write!(wire, "HTTP/1.1 {code} {reason}\r\nContent-Type: text/html\r\n")?;
    for (name, value) in headers {
        write!(wire, "{name}: {value}\r\n")?;
    }
    write!(wire, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    wire.flush()?;
    Ok(true)
}
