//! A connection of the web server: plain or TLS, with requests to be read from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// What was asked for: a path, or a whole URL where the server is taken for a proxy.
    pub target: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The number of the connection that it came on.
    pub connection: usize,
    /// Bytes of the body that went out.
    pub sent: u64,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether `user:password` come with it.
    pub fn presents(&self, credentials: &str) -> bool {
        let expected = format!("Basic {}", STANDARD.encode(credentials));
        self.header("authorization") == Some(&expected)
    }

    /// The bytes that are asked for of a file of `length` bytes, where it is not all of them.
    pub fn range(&self, length: u64) -> Option<Range<u64>> {
        let (start, end) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        if start.is_empty() {
            let count: u64 = end.parse().ok()?;
            return Some(length.saturating_sub(count)..length);
        }
        let end = if end.is_empty() { length } else { end.parse::<u64>().ok()?.checked_add(1)? };
        Some(start.parse().ok()?..end.min(length))
    }
}

/// The path of a target, be it a path or a URL; without the query.
pub(crate) fn path_of(target: &str) -> String {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    path.split('?').next().unwrap_or_default().to_owned()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    number: usize,
    socket: TcpStream,
    stream: Stream,
    unread: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    pub(crate) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
        let clone = socket.try_clone()?;
        let stream = match tls {
            None => Stream::Plain(clone),
            Some(config) => {
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, clone)))
            }
        };
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { number, socket, stream, unread: Vec::new() })
    }

    /// What tells it from other connections.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The next request; `None` at the end of the connection.
    pub(crate) fn request(&mut self) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            let mut buffer = [0; 4096];
            match self.read(&mut buffer)? {
                0 => return Ok(None),
                count => self.unread.extend_from_slice(&buffer[..count]),
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Ok(None);
        };
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Request { method, target, headers, connection: self.number, sent: 0 }))
    }

    /// Ends the connection without a word.
    pub(crate) fn cut(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Ends the connection as is proper.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
        }
        self.flush()?;
        self.socket.shutdown(Shutdown::Write)
    }

    /// Whether the client has hung up.
    pub(crate) fn is_gone(&mut self) -> bool {
        let mut byte = [0];
        let _ = self.socket.set_read_timeout(Some(Duration::from_millis(1)));
        matches!(self.socket.peek(&mut byte), Ok(0))
    }

    /// Passes bytes to and fro until both sides have ended.
    pub(crate) fn join(self, other: TcpStream) -> io::Result<()> {
        let (mut there, mut back) = (self.socket.try_clone()?, other.try_clone()?);
        let (mut from, mut to) = (self.socket, other);
        to.write_all(&self.unread)?;
        let returning = thread::spawn(move || {
            let _ = io::copy(&mut back, &mut there);
            let _ = there.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        let _ = returning.join();
        Ok(())
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
