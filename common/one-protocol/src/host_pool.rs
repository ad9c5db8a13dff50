//! Which hosts oned lists as unusable: `one.hostpool.info` of its XML-RPC interface.

use crate::settings::Settings;
use quick_xml::escape::escape;
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// All of it, from the look-up of the address to the last byte, takes no longer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A pool is never larger, bytes: some 10 KiB for each host.
const LARGEST: u64 = 64 << 20;

/// A host that oned lists, with the reason where it must not be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Why it must not be used.
    pub unusable: Option<&'static str>,
}

/// Why oned did not tell.
#[derive(Debug, thiserror::Error)]
pub enum HostPoolError {
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
    },
}

/// Asks oned for all its hosts.
///
/// # Errors
/// [`HostPoolError`], within a second.
pub fn ask(settings: &Settings) -> Result<Vec<Host>, HostPoolError> {
    let endpoint = settings.xml_rpc();
    let address = Address::parse(&endpoint).ok_or(HostPoolError::Endpoint(endpoint.clone()))?;
    let path = settings.session_file();
    let session = std::fs::read_to_string(&path)
        .map_err(|source| HostPoolError::Session { path: path.display().to_string(), source })?;
    let session = session.lines().next().unwrap_or_default().trim().to_owned();
    // Looking up an address can't be given a time, so a thread does all of it.
    let (sender, answer) = channel();
    let until = Instant::now() + TIMEOUT;
    let asked = std::thread::Builder::new().spawn(move || {
        let _ = sender.send(exchange(&address, &request(&session), until));
    });
    let connection = |source| HostPoolError::Connection { endpoint: endpoint.clone(), source };
    asked.map_err(connection)?;
    let bytes = match answer.recv_timeout(TIMEOUT) {
        Ok(Err(error)) if is_late(&error) => {
            Err(HostPoolError::Late { endpoint: endpoint.clone() })
        }
        Ok(bytes) => bytes.map_err(connection),
        Err(_) => Err(HostPoolError::Late { endpoint: endpoint.clone() }),
    }?;
    hosts(&bytes).map_err(|answer| HostPoolError::Refused { endpoint, answer })
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

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

fn request(session: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>one.hostpool.info</methodName><params>\
         <param><value><string>{}</string></value></param></params></methodCall>",
        escape(session)
    )
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

/// `<methodResponse>` of XML-RPC, as far as it matters: an array of whether it went well, the answer or
/// the error, and a code.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    params: Params,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    param: Param,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Param {
    value: Outer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outer {
    array: Array,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Array {
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    value: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Value {
    boolean: Option<String>,
    string: Option<String>,
}

/// `HOST_POOL` of oned.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Pool {
    host: Vec<PoolHost>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct PoolHost {
    name: String,
    state: String,
}

/// The hosts in an answer, or what it says instead.
fn hosts(answer: &[u8]) -> Result<Vec<Host>, String> {
    let text = String::from_utf8_lossy(answer);
    let status = text.lines().next().unwrap_or_default().trim();
    let Some((_, body)) = text.split_once("\r\n\r\n").filter(|_| status.contains(" 200")) else {
        return Err(if status.is_empty() { "nothing" } else { status }.to_owned());
    };
    let no_sense = |error: quick_xml::DeError| format!("invalid XML-RPC response: {error}");
    let response: Response = quick_xml::de::from_str(body).map_err(no_sense)?;
    let values = response.params.param.value.array.data.value;
    let good = values.iter().find_map(|value| value.boolean.as_deref());
    let text = values.iter().find_map(|value| value.string.as_deref()).unwrap_or_default();
    if good.map(str::trim) != Some("1") {
        return Err(if text.is_empty() { "no list of hosts" } else { text }.to_owned());
    }
    let pool: Pool = quick_xml::de::from_str(text).map_err(no_sense)?;
    let host = |host: PoolHost| Host { unusable: unusable(host.state.trim()), name: host.name };
    Ok(pool.host.into_iter().map(host).collect())
}

/// Why a host in a state must not be used. The states are those of OpenNebula's `HostState`: INIT,
/// MONITORING_MONITORED, MONITORED, ERROR, DISABLED, MONITORING_ERROR, MONITORING_INIT,
/// MONITORING_DISABLED and OFFLINE, from 0.
fn unusable(state: &str) -> Option<&'static str> {
    match state {
        "3" | "5" => Some("oned lists it as in error"),
        "4" | "7" => Some("oned lists it as disabled"),
        "8" => Some("oned lists it as off"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn response(good: &str, text: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <methodResponse>\r\n<params>\r\n<param><value><array><data>\r\n\
             <value><boolean>{good}</boolean></value>\r\n<value><string>{}</string></value>\r\n\
             <value><i4>0</i4></value>\r\n</data></array></value></param>\r\n</params>\r\n\
             </methodResponse>\r\n",
            escape(text)
        )
    }

    #[test]
    fn states_of_hosts_come_out_of_a_pool() {
        let host = |name: &str, state: &str| {
            format!(
                "<HOST><ID>1</ID><NAME>{name}</NAME><STATE>{state}</STATE><TEMPLATE>\
                 <NAME>other</NAME><STATE>8</STATE></TEMPLATE></HOST>"
            )
        };
        let pool = (0..9).map(|state| host(&format!("h{state}"), &state.to_string()));
        let pool = format!("<HOST_POOL>{}</HOST_POOL>", pool.collect::<String>());
        let hosts = hosts(response("1", &pool).as_bytes()).unwrap();
        let unusable: Vec<_> =
            hosts.iter().filter(|h| h.unusable.is_some()).map(|h| h.name.as_str()).collect();
        assert_eq!(hosts.len(), 9);
        assert_eq!(unusable, ["h3", "h4", "h5", "h7", "h8"]);
        assert_eq!(super::hosts(response("1", "<HOST_POOL></HOST_POOL>").as_bytes()), Ok(vec![]));
    }

    #[test]
    fn refusals_are_told() {
        let said = |answer: &str| hosts(answer.as_bytes()).unwrap_err();
        assert_eq!(
            said(&response("0", "User couldn't be authenticated")),
            "User couldn't be authenticated"
        );
        assert_eq!(said("HTTP/1.0 404 Not Found\r\n\r\n"), "HTTP/1.0 404 Not Found");
        assert_eq!(said(""), "nothing");
        assert!(
            said("HTTP/1.0 200 OK\r\n\r\nhello").starts_with("invalid XML-RPC response")
                || said("HTTP/1.0 200 OK\r\n\r\nhello") == "no list of hosts"
        );
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
