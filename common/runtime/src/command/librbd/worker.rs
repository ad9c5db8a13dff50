//! The process that makes a new image by librbd: the driver's own executable, started once more.
//!
//! It reads requests from standard input, and replies on standard output. The end of its input ends it, after what it is
//! at: so it closes its image, and the cluster does not count a dead client as one that lives.

use super::library::{Failure, Image, Library, Pool, end};
use super::protocol::{CREATE, IMPORT, LIST, MISSING, NAME, RENAME, Reply};
use nix::libc;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;

/// The first line of a stream of differences.
const BANNER: &[u8] = b"rbd diff v1\n";

/// What the process works on, out of its arguments.
#[derive(Debug, Default)]
struct Task {
    pool: String,
    data_pool: Option<String>,
    temporary: String,
    image: String,
    conf: Option<String>,
    user: Option<String>,
    options: Vec<(String, String)>,
}

impl Task {
    fn of(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut words = arguments.map(|word| word.into_string().ok());
        let mut word = || words.next().flatten();
        let optional = |word: String| (!word.is_empty()).then_some(word);
        let mut task = Self {
            pool: word()?,
            data_pool: optional(word()?),
            temporary: word()?,
            image: word()?,
            conf: optional(word()?),
            user: optional(word()?),
            options: Vec::new(),
        };
        while let (Some(name), Some(value)) = (word(), word()) {
            task.options.push((name, value));
        }
        Some(task)
    }
}

/// Does what a driver asks for, if this process was started for that; else it returns.
pub fn serve(mut arguments: impl Iterator<Item = OsString>) {
    if arguments.next().is_some_and(|name| name == NAME) {
        let done = Task::of(arguments)
            .ok_or(io::ErrorKind::InvalidInput.into())
            .and_then(|task| work(&task));
        end(if done.is_ok() { 0 } else { libc::EIO });
    }
}

/// A standard stream without a buffer.
fn unbuffered(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

fn work(task: &Task) -> io::Result<()> {
    let (mut requests, mut replies) = (unbuffered(io::stdin())?, unbuffered(io::stdout())?);
    let options: Vec<(&str, &str)> =
        task.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let library = match Library::load(task.conf.as_deref(), task.user.as_deref(), &options) {
        Ok(library) => library,
        Err(reason) => return Reply { code: MISSING, payload: reason.into() }.write(&mut replies),
    };
    let pool = match library.connect(&task.pool) {
        Ok(pool) => pool,
        Err(failure) => return reply(Err(failure)).write(&mut replies),
    };
    let mut request = [0];
    while requests.read(&mut request)? == 1 {
        let done = match request[0] {
            LIST => pool.images(),
            CREATE => {
                let mut size = [0; 8];
                requests.read_exact(&mut size)?;
                let size = u64::from_le_bytes(size);
                pool.create(&task.temporary, size, task.data_pool.as_deref()).map(|()| Vec::new())
            }
            IMPORT => import(&pool, &task.temporary, &mut requests).map(|()| Vec::new()),
            RENAME => pool.rename(&task.temporary, &task.image).map(|()| Vec::new()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let is_broken = done.is_err() && request[0] == IMPORT;
        reply(done).write(&mut replies)?;
        if is_broken {
            // What is left of the stream is not a request.
            return Ok(());
        }
    }
    Ok(())
}

fn reply(done: Result<Vec<u8>, Failure>) -> Reply {
    match done {
        Ok(payload) => Reply { code: 0, payload },
        Err(Failure { code, reason }) => Reply { code, payload: reason.into() },
    }
}

/// Writes a stream of differences ("rbd diff v1", see doc/dev/rbd-diff.rst of Ceph) into an image.
fn import(pool: &Pool, name: &str, stream: &mut File) -> Result<(), Failure> {
    let mut image = pool.open(name)?;
    copy(&mut image, stream)?;
    image.flush()
}

fn copy(image: &mut Image, stream: &mut File) -> Result<(), Failure> {
    let number = |stream: &mut File| -> io::Result<u64> {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut banner = [0; BANNER.len()];
    stream.read_exact(&mut banner)?;
    loop {
        let mut tag = [0];
        stream.read_exact(&mut tag)?;
        match tag[0] {
            b's' => image.resize(number(stream)?)?,
            b'w' => {
                let (offset, length) = (number(stream)?, number(stream)? as usize);
                let mut bytes = image.buffer()?;
                stream.read_exact(bytes.get_mut(..length).ok_or_else(invalid)?)?;
                image.write(bytes, length, offset)?;
            }
            b'e' => return Ok(()),
            _ => return Err(invalid().into()),
        }
    }
}
