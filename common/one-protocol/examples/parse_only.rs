//! Reads a message from standard input and parses it: the least that any driver has to do. `tests/bench` holds the
//! quick actions against it.

use std::io::{self, Read as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    match read.map(|_| one_protocol::message::parse(&bytes).is_ok()) {
        Ok(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
