//! oned, as far as drivers ask it anything: its XML-RPC interface with a list of hosts.

use crate::Call;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What oned does when it is asked.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It lists hosts and their states.
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
    requests: Arc<Mutex<Vec<String>>>,
}

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
        let requests = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked) = (answer.clone(), Arc::clone(&asked));
                thread::spawn(move || serve(stream, &answer, &asked));
            }
        });
        Self { address, requests }
    }

    /// A call of a driver that knows where oned is, and as whom to ask. `home` is where the session is
    /// kept.
    pub fn known_to<'c>(&self, call: Call<'c>, home: &Path) -> Call<'c> {
        let session = home.join("one_auth");
        fs::write(&session, format!("{SESSION}\n")).unwrap();
        call.environment("ONE_AUTH", session)
            .environment("ONE_XMLRPC", format!("http://{}/RPC2", self.address))
    }

    /// What it was asked.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answer: &Answer, asked: &Mutex<Vec<String>>) {
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
    asked.lock().unwrap().push(body.clone());
    let session = "<string>serveradmin:secret&amp;&lt;word&gt;</string>";
    let known =
        body.contains("<methodName>one.hostpool.info</methodName>") && body.contains(session);
    let mut stream = stream;
    let reply = match answer {
        Answer::Hosts(hosts) if known => response("1", &pool(hosts)),
        Answer::Hosts(_) | Answer::Refusal => {
            response("0", "User couldn't be authenticated, aborting.")
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

fn response(good: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<methodResponse>\r\n<params>\r\n<param><value>\
         <array><data>\r\n<value><boolean>{good}</boolean></value>\r\n<value><string>{text}</string>\
         </value>\r\n<value><i4>0</i4></value>\r\n</data></array></value></param>\r\n</params>\r\n\
         </methodResponse>\r\n"
    );
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
