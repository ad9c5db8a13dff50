//! oned, as far as drivers ask it anything: its XML-RPC interface with a list of hosts, and with images.
//!
//! What it answers has the form of what an oned 7.5 was recorded to answer.

use crate::Call;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::NamedTempFile;

/// What oned does when it is asked.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It lists hosts and their states. Every image exists that was not deleted.
    Hosts(Vec<(String, u8)>),
    /// It refuses the session.
    Refusal,
    /// It takes its time.
    Silence,
    /// It answers a byte now and then.
    Trickle,
    /// It answers with what is no XML-RPC.
    Nonsense,
}

/// oned, until the test ends.
#[derive(Debug)]
pub struct Oned {
    address: SocketAddr,
    state: Arc<State>,
    /// The file that `ONE_AUTH` names. Each oned has its own: tests run at the same time, and one that is being
    /// written is empty for a moment.
    session: NamedTempFile,
}

/// What it remembers.
#[derive(Debug, Default)]
struct State {
    requests: Mutex<Vec<String>>,
    deleted: Mutex<Vec<u64>>,
    documents: Mutex<Vec<(String, String)>>,
}

/// oned's code for a session that it doesn't know, and for an object that does not exist.
const NO_SESSION: u32 = 256;
const NO_EXISTS: u32 = 1024;

/// The session that it wants.
const SESSION: &str = "serveradmin:secret&<word>";

impl Oned {
    /// oned with hosts in these states (`HostState`: 2 monitored, 3 error, 4 disabled, 8 offline).
    pub fn listing(hosts: &[(&str, u8)]) -> Self {
        let hosts = hosts.iter().map(|(name, state)| ((*name).to_owned(), *state));
        Self::answering(Answer::Hosts(hosts.collect()))
    }

    /// oned that answers in this way.
    pub fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, shared) = (answer.clone(), Arc::clone(&shared));
                thread::spawn(move || serve(stream, &answer, &shared));
            }
        });
        let session = tempfile::Builder::new()
            .prefix("ferrostore-one_auth.")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile()
            .unwrap();
        fs::write(session.path(), format!("{SESSION}\n")).unwrap();
        Self { address, state, session }
    }

    /// Deletes an image, whatever is at work on it.
    pub fn delete_image(&self, id: u64) {
        self.state.deleted.lock().unwrap().push(id);
    }

    /// Answers calls of `method` with `document` from now on.
    pub fn document(&self, method: &str, document: &str) {
        let element = format!("<methodName>{method}</methodName>");
        let mut documents = self.state.documents.lock().unwrap();
        documents.retain(|(known, _)| *known != element);
        documents.push((element, document.to_owned()));
    }

    /// The environment of a program that knows where oned is, and as whom to ask.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("ONE_AUTH", self.session.path().display().to_string()),
            ("ONE_XMLRPC", format!("http://{}/RPC2", self.address)),
        ]
    }

    /// All values that were given to the attribute PROGRESS of an image, in order.
    pub fn progress(&self, id: u64) -> Vec<String> {
        let image = format!("<int>{id}</int>");
        let value = |request: String| {
            let template = request.split("<string>PROGRESS=&quot;").nth(1)?;
            let appends = request.contains("one.image.update") && request.contains("<int>1</int>");
            (appends && request.contains(&image))
                .then(|| template.split("&quot;</string>").next().unwrap().to_owned())
        };
        self.requests().into_iter().filter_map(value).collect()
    }

    /// The methods that were called, in order.
    pub fn methods(&self) -> Vec<String> {
        let method = |request: String| {
            let rest = request.split("<methodName>").nth(1).unwrap_or_default().to_owned();
            rest.split('<').next().unwrap_or_default().to_owned()
        };
        self.requests().into_iter().map(method).collect()
    }

    /// A call of a driver that knows where oned is, and as whom to ask.
    pub fn known_to<'c>(&self, call: Call<'c>) -> Call<'c> {
        let [auth, address] = self.environment();
        call.environment(auth.0, auth.1).environment(address.0, address.1)
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answer: &Answer, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|count| count > 0) && line != "\r\n" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body = String::from_utf8(body).unwrap();
    state.requests.lock().unwrap().push(body.clone());
    let known = body.contains("<string>serveradmin:secret&amp;&lt;word&gt;</string>");
    let mut stream = stream;
    let reply = match answer {
        Answer::Hosts(hosts) if known => about(&body, hosts, state),
        Answer::Hosts(_) | Answer::Refusal => {
            refusal("User couldn't be authenticated, aborting call.", NO_SESSION)
        }
        Answer::Silence => return thread::sleep(Duration::from_secs(30)),
        Answer::Trickle => {
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n");
            while stream.write_all(b"X: y\r\n").is_ok() {
                thread::sleep(Duration::from_millis(200));
            }
            return;
        }
        Answer::Nonsense => "HTTP/1.0 200 OK\r\n\r\n<html>".to_owned(),
    };
    let _ = stream.write_all(reply.as_bytes());
}

/// The answer to a request with valid credentials.
fn about(body: &str, hosts: &[(String, u8)], state: &State) -> String {
    if body.contains("<methodName>one.hostpool.info</methodName>") {
        return response("1", &text(&pool(hosts)), 0);
    }
    let documents = state.documents.lock().unwrap();
    if let Some((_, document)) = documents.iter().find(|(method, _)| body.contains(method)) {
        return response("1", &text(document), 0);
    }
    drop(documents);
    let method =
        if body.contains("one.image.update") { "one.image.update" } else { "one.image.info" };
    let id = body.split("<int>").nth(1).and_then(|rest| rest.split('<').next()?.parse().ok());
    let id: u64 = id.expect("the number of an image");
    if state.deleted.lock().unwrap().contains(&id) {
        return refusal(&format!("[{method}] Error getting image [{id}]."), NO_EXISTS);
    }
    if method == "one.image.update" {
        return response("1", &format!("<value><i4>{id}</i4></value>"), 0);
    }
    let image =
        format!("<IMAGE><ID>{id}</ID><STATE>4</STATE><SOURCE><![CDATA[]]></SOURCE></IMAGE>");
    response("1", &text(&image), 0)
}

fn pool(hosts: &[(String, u8)]) -> String {
    let host = |(name, state): &(String, u8)| {
        format!(
            "<HOST><ID>1</ID><NAME>{name}</NAME><STATE>{state}</STATE><PREV_STATE>2</PREV_STATE>\
             <IM_MAD><![CDATA[kvm]]></IM_MAD><TEMPLATE><NAME><![CDATA[{name}]]></NAME></TEMPLATE>\
             </HOST>"
        )
    };
    format!("<HOST_POOL>{}</HOST_POOL>", hosts.iter().map(host).collect::<String>())
}

fn refusal(reason: &str, code: u32) -> String {
    response("0", &text(reason), code)
}

fn text(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<value><string>{text}</string></value>")
}

fn response(good: &str, value: &str, code: u32) -> String {
    let object =
        if code > 0 { "<value><i4>413</i4></value>\r\n<value><i8>-1</i8></value>\r\n" } else { "" };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<methodResponse>\r\n<params>\r\n<param><value>\
         <array><data>\r\n<value><boolean>{good}</boolean></value>\r\n{value}\r\n\
         <value><i4>{code}</i4></value>\r\n{object}</data></array></value></param>\r\n</params>\r\n\
         </methodResponse>\r\n"
    );
    format!("HTTP/1.1 200 OK\r\nContent-length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
