//! The least that an action has to do, which `tests/bench` holds the drivers against: it reads a message from
//! standard input and parses it. `least make FILE` also makes an empty disk of 1 GiB, `least remove FILE` removes
//! one; both have file and directory on disk when they end.

use std::fs::{self, File};
use std::io::{self, Error, Read as _};
use std::path::Path;
use std::process::ExitCode;

fn parse() -> io::Result<()> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    one_protocol::message::parse(bytes).map(drop).map_err(|error| Error::other(error.to_string()))
}

fn synchronise_directory_of(file: &Path) -> io::Result<()> {
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn run() -> io::Result<()> {
    parse()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => Ok(()),
        ["make", path] => {
            let file = File::create_new(path)?;
            file.set_len(1 << 30)?;
            file.sync_all()?;
            synchronise_directory_of(Path::new(path))
        }
        ["remove", path] => {
            fs::remove_file(path)?;
            synchronise_directory_of(Path::new(path))
        }
        _ => Err(Error::other("usage: least [make FILE | remove FILE]")),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
