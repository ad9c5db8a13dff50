//! The XML-RPC interface of OpenNebula's daemon: one call, one answer, within a second.

use crate::elements::each_element;
use crate::settings::Settings;
use quick_xml::escape::escape;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// All of a call, from the look-up of the address to the last byte, takes no longer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// An answer is never larger, bytes: some 10 KiB for each host of a pool.
const LARGEST: u64 = 64 << 20;
/// The code of oned for an object that does not exist (`NO_EXISTS` among its error codes).
const NO_EXISTS: i64 = 1024;

/// Why oned did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum XmlRpcError {
    /// The address is not one of plain http.
    #[error("ONE_XMLRPC {0:?} is no plain http address")]
    Endpoint(String),
    /// The credentials can't be read.
    #[error("the session in {path} can't be read: {source}")]
    Session {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no connection, or it broke.
    #[error("{endpoint}: {source}")]
    Connection {
        /// The address.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{endpoint} did not answer within a second")]
    Late {
        /// The address.
        endpoint: String,
    },
    /// The answer is an error, or no answer of oned.
    #[error("{endpoint} answered: {answer}")]
    Refused {
        /// The address.
        endpoint: String,
        /// What came.
        answer: String,
        /// The number that oned gives the error, where it is one of oned's.
        code: Option<i64>,
    },
}

impl XmlRpcError {
    /// Whether oned says that there is no such object. Nothing else counts as that: neither silence nor a session
    /// without permission.
    #[must_use]
    pub fn is_no_such_object(&self) -> bool {
        matches!(self, Self::Refused { code: Some(NO_EXISTS), .. })
    }
}

/// An argument of a call, after the session.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// `string`.
    Text(&'a str),
    /// `int`.
    Number(u64),
    /// `boolean`.
    Flag(bool),
}

/// Who asks, and where oned is.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: String,
    address: Arc<Address>,
    session: String,
}

impl Client {
    /// The client with the address and the credentials that the settings name.
    ///
    /// # Errors
    /// [`XmlRpcError::Endpoint`], [`XmlRpcError::Session`].
    pub fn new(settings: &Settings) -> Result<Self, XmlRpcError> {
        let endpoint = settings.xml_rpc();
        let address = Address::parse(&endpoint).ok_or(XmlRpcError::Endpoint(endpoint.clone()))?;
        let path = settings.session_file();
        let session = std::fs::read_to_string(&path)
            .map_err(|source| XmlRpcError::Session { path: path.display().to_string(), source })?;
        let session = session.lines().next().unwrap_or_default().trim().to_owned();
        Ok(Self { endpoint, address: Arc::new(address), session })
    }

    /// Calls a method; the text in its answer, which is empty where that is a number.
    ///
    /// # Errors
    /// [`XmlRpcError`], within a second.
    pub fn call(&self, method: &str, arguments: &[Argument]) -> Result<String, XmlRpcError> {
        let endpoint = || self.endpoint.clone();
        let body = request(method, &self.session, arguments);
        let address = Arc::clone(&self.address);
        // Looking up an address can't be given a time, so a thread does all of it.
        let (sender, answer) = channel();
        let until = Instant::now() + TIMEOUT;
        let asked = std::thread::Builder::new().spawn(move || {
            let _ = sender.send(exchange(&address, &body, until));
        });
        let connection = |source| XmlRpcError::Connection { endpoint: endpoint(), source };
        asked.map_err(connection)?;
        let bytes = match answer.recv_timeout(TIMEOUT) {
            Ok(Err(error)) if is_late(&error) => Err(XmlRpcError::Late { endpoint: endpoint() }),
            Ok(bytes) => bytes.map_err(connection),
            Err(_) => Err(XmlRpcError::Late { endpoint: endpoint() }),
        }?;
        text_of(&bytes).map_err(|Refusal { answer, code }| XmlRpcError::Refused {
            endpoint: endpoint(),
            answer,
            code,
        })
    }

    /// Sets an attribute of an image's template, and leaves the others as they are (`one.image.update`, appending).
    ///
    /// # Errors
    /// [`XmlRpcError`].
    pub fn append_to_image(&self, id: u64, name: &str, value: &str) -> Result<(), XmlRpcError> {
        const APPEND: u64 = 1;
        let template = format!("{name}=\"{}\"", value.replace('\\', "/").replace('"', "\\\""));
        let arguments = [Argument::Number(id), Argument::Text(&template), Argument::Number(APPEND)];
        self.call("one.image.update", &arguments).map(drop)
    }

    /// Asks for an image (`one.image.info`): no error means that it is there.
    ///
    /// # Errors
    /// [`XmlRpcError`].
    pub fn image(&self, id: u64) -> Result<(), XmlRpcError> {
        let decrypt = Argument::Flag(false);
        self.call("one.image.info", &[Argument::Number(id), decrypt]).map(drop)
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[derive(Debug)]
struct Address {
    host: String,
    port: u16,
    path: String,
}

impl Address {
    fn parse(endpoint: &str) -> Option<Self> {
        let rest = endpoint.strip_prefix("http://")?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/RPC2"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
            _ => (authority, 80),
        };
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || authority.contains('@') || !plain(endpoint) {
            return None;
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port, path: path.to_owned() })
    }
}

fn request(method: &str, session: &str, arguments: &[Argument]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>\
         <param><value><string>{}</string></value></param>",
        escape(session)
    );
    for argument in arguments {
        let _ = match argument {
            Argument::Text(value) => {
                write!(text, "<param><value><string>{}</string></value></param>", escape(*value))
            }
            Argument::Number(value) => {
                write!(text, "<param><value><int>{value}</int></value></param>")
            }
            Argument::Flag(value) => {
                let value = u8::from(*value);
                write!(text, "<param><value><boolean>{value}</boolean></value></param>")
            }
        };
    }
    text + "</params></methodCall>"
}

fn exchange(address: &Address, body: &str, until: Instant) -> io::Result<Vec<u8>> {
    let left = || until.checked_duration_since(Instant::now()).ok_or(io::ErrorKind::TimedOut);
    let mut last = io::ErrorKind::NotFound.into();
    for socket in (address.host.as_str(), address.port).to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&socket, left()?) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_write_timeout(Some(left()?))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let head = format!(
            "POST {} HTTP/1.0\r\nHost: {}:{}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
            address.path,
            address.host,
            address.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut buffer)? {
                0 => return Ok(answer),
                _ if answer.len() as u64 > LARGEST => {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
    }
    Err(last)
}

/// The first values of each type in a `<methodResponse>` of XML-RPC. oned answers with an array of whether it went well,
/// the answer or the error, and the error's code.
#[derive(Debug, Default)]
struct Response {
    boolean: Option<String>,
    string: Option<String>,
    int: Option<String>,
}

impl Response {
    fn parse(body: &str) -> Result<Self, quick_xml::Error> {
        let mut response = Self::default();
        each_element(body, &mut |path, text| {
            let value = match path {
                [.., "value", "boolean"] => &mut response.boolean,
                [.., "value", "string"] => &mut response.string,
                [.., "value", "i4" | "int"] => &mut response.int,
                _ => return,
            };
            value.get_or_insert_with(|| text.to_owned());
        })?;
        Ok(response)
    }
}

/// What came instead of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    answer: String,
    code: Option<i64>,
}

/// The text in an answer, or what it says instead.
fn text_of(answer: &[u8]) -> Result<String, Refusal> {
    let refused = |answer: String| Refusal { answer, code: None };
    let text = String::from_utf8_lossy(answer);
    let status = text.lines().next().unwrap_or_default().trim();
    let Some((_, body)) = text.split_once("\r\n\r\n").filter(|_| status.contains(" 200")) else {
        return Err(refused(if status.is_empty() { "nothing" } else { status }.to_owned()));
    };
    let response = Response::parse(body)
        .map_err(|error| refused(format!("invalid XML-RPC response: {error}")))?;
    let good = response.boolean.as_deref().map(str::trim);
    let text = response.string.unwrap_or_default();
    if good == Some("1") {
        return Ok(text);
    }
    // After the error comes its code, and then the number of the object.
    let code = response.int.filter(|_| good == Some("0")).and_then(|code| code.trim().parse().ok());
    let answer = if text.is_empty() { "no answer of oned".to_owned() } else { text };
    Err(Refusal { answer, code })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What oned answers, without its code.
    pub(crate) fn response(good: &str, text: &str) -> String {
        response_with(good, text, 0)
    }

    fn response_with(good: &str, text: &str, code: i64) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <methodResponse>\r\n<params>\r\n<param><value><array><data>\r\n\
             <value><boolean>{good}</boolean></value>\r\n<value><string>{}</string></value>\r\n\
             <value><i4>{code}</i4></value>\r\n<value><i4>413</i4></value>\r\n\
             <value><i8>-1</i8></value>\r\n</data></array></value></param>\r\n</params>\r\n\
             </methodResponse>\r\n",
            escape(text)
        )
    }

    /// The text of an answer, for other tests of this crate.
    pub(crate) fn answer_of(bytes: &[u8]) -> Result<String, String> {
        text_of(bytes).map_err(|refusal| refusal.answer)
    }

    #[test]
    fn refusals_are_told_with_their_code() {
        let said = |answer: &str| {
            let Refusal { answer, code } = text_of(answer.as_bytes()).unwrap_err();
            (answer, code)
        };
        let gone = response_with("0", "[one.image.info] Error getting image [413].", 1024);
        assert_eq!(said(&gone), ("[one.image.info] Error getting image [413].".into(), Some(1024)));
        assert_eq!(said(&response_with("0", "no", 256)), ("no".into(), Some(256)));
        assert_eq!(said("HTTP/1.0 404 Not Found\r\n\r\n"), ("HTTP/1.0 404 Not Found".into(), None));
        assert_eq!(said(""), ("nothing".into(), None));
        let (answer, code) = said("HTTP/1.0 200 OK\r\n\r\nhello");
        assert!(answer.starts_with("invalid XML-RPC response") || answer == "no answer of oned");
        assert_eq!(code, None);
        // A number alone is no error of oned's.
        let odd = gone.replace("<value><boolean>0</boolean></value>", "");
        assert_eq!(said(&odd).1, None);
    }

    #[test]
    fn only_an_object_that_does_not_exist_counts_as_gone() {
        let refused =
            |code| XmlRpcError::Refused { endpoint: String::new(), answer: String::new(), code };
        assert!(refused(Some(1024)).is_no_such_object());
        for other in [refused(Some(256)), refused(Some(512)), refused(None)] {
            assert!(!other.is_no_such_object(), "{other:?}");
        }
        assert!(!XmlRpcError::Late { endpoint: String::new() }.is_no_such_object());
    }

    #[test]
    fn arguments_are_typed_and_text_is_escaped() {
        let body = request("m", "a:<b>", &[Argument::Number(7), Argument::Text("X=\"1\"")]);
        assert!(body.contains("<methodName>m</methodName>"), "{body}");
        assert!(body.contains("<string>a:&lt;b&gt;</string>"), "{body}");
        assert!(body.contains("<int>7</int>") && body.contains("X=&quot;1&quot;"), "{body}");
    }

    #[test]
    fn endpoints_have_a_host_a_port_and_a_path() {
        let parts = |endpoint| Address::parse(endpoint).map(|a| (a.host, a.port, a.path));
        let expected =
            |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
        assert_eq!(parts("http://localhost:2633/RPC2"), expected("localhost", 2633, "/RPC2"));
        assert_eq!(parts("http://[::1]:2633/x/RPC2"), expected("::1", 2633, "/x/RPC2"));
        assert_eq!(parts("http://one"), expected("one", 80, "/RPC2"));
        for wrong in ["https://one/RPC2", "one:2633", "http://", "http://a:b/", "http://a b/"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
