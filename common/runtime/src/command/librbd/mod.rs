//! A new image made by librbd, where that is installed: one process and one connection for all that needs four `rbd`
//! programs otherwise.
//!
//! librbd has threads of its own, may hang, and may abort. So it is loaded by a process of its own, see `worker`, which has
//! the same deadlines as `rbd`, holds the same lock, and comes to the end of a change whatever becomes of the driver.

mod library;
mod protocol;
mod worker;

use super::cluster::{ClusterError, Pace};
use super::rbd::Pool;
use super::rbd_import::{Import, Stopper, wide_pipe};
use super::running::{Ending, Running};
use crate::sys::{self, EXECUTABLE};
use protocol::{CREATE, IMPORT, LIST, MISSING, NAME, RENAME, Reply};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;
pub use worker::serve;

/// A process with librbd that makes one image.
#[derive(Debug)]
pub struct LibrbdProcess {
    /// `None` once it has ended.
    process: Option<Import>,
    requests: Arc<File>,
    replies: File,
    temporary: String,
    image: String,
}

impl LibrbdProcess {
    /// Starts a process that is to make `temporary` in `pool`, and to rename it to `image`; and the names of all images.
    /// `None` where librbd is not installed, or not to be used.
    ///
    /// # Errors
    /// Where the cluster can't be reached.
    pub fn start(
        pool: &Pool,
        temporary: &str,
        image: &str,
    ) -> Result<Option<(Self, Vec<String>)>, ClusterError> {
        // `rbd` checks that there is such a namespace.
        if !pool.cluster.librbd || pool.name.contains('/') {
            return Ok(None);
        }
        let mut process = match Self::spawn(pool, temporary, image) {
            Ok(process) => process,
            Err(error) => {
                log::warn!("librbd is not used: {error}");
                return Ok(None);
            }
        };
        let reply = match process.ask(&[LIST], &format!("ls {}", pool.name)) {
            Ok(Reply { code: MISSING, payload }) => {
                log::debug!("librbd is not used: {}", String::from_utf8_lossy(&payload));
                return Ok(None);
            }
            // It has ended by itself, and changed nothing.
            Err(error) if process.process.is_none() && !error.is_timeout() => {
                log::warn!("librbd is not used: {error}");
                return Ok(None);
            }
            reply => reply?,
        };
        let names = reply.payload.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let names = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        Ok(Some((process, names)))
    }

    fn spawn(pool: &Pool, temporary: &str, image: &str) -> io::Result<Self> {
        let cluster = &pool.cluster;
        let ((input, requests), (replies, output)) = (wide_pipe()?, io::pipe()?);
        let text = |text: Option<&String>| OsString::from(text.map_or("", String::as_str));
        let mut words = vec![
            OsString::from(&pool.name),
            text(pool.data_pool.as_ref()),
            temporary.into(),
            image.into(),
            cluster.conf.clone().unwrap_or_default().into(),
            text(cluster.user.as_ref()),
        ];
        for (name, value) in cluster.settings() {
            words.extend([name.into(), value]);
        }
        let mut command = super::plain(Path::new(EXECUTABLE), &words);
        command.arg0(NAME);
        if let Some(lock) = cluster.lock.get() {
            sys::keep_open(&mut command, Arc::clone(lock));
        }
        let name = format!("librbd in {}", pool.name);
        let running = Running::start(&name, command, Ending::ByItself, input, Some(output.into()))
            .map_err(io::Error::other)?;
        let requests = Arc::new(requests);
        Ok(Self {
            process: Some(Import::of(running, Arc::clone(&requests), cluster.limit(Pace::Quick))),
            requests,
            replies: File::from(OwnedFd::from(replies)),
            temporary: pool.spec(temporary),
            image: pool.spec(image),
        })
    }

    /// Makes the temporary image, of `size` bytes that read as zero.
    ///
    /// # Errors
    /// Where its name is taken: then it can be asked for again.
    pub fn create(&mut self, size: u64) -> Result<(), ClusterError> {
        let request = [&[CREATE][..], &size.to_le_bytes()].concat();
        self.ask(&request, &format!("create {}", self.temporary)).map(drop)
    }

    /// Begins to fill the temporary image; what its stream of differences is written to, up to its end.
    ///
    /// # Errors
    /// Where the process has ended.
    pub fn begin_import(&mut self) -> Result<Arc<File>, ClusterError> {
        self.send(&[IMPORT], &format!("import-diff {}", self.temporary))?;
        Ok(Arc::clone(&self.requests))
    }

    /// Waits until all that was written is in the image.
    ///
    /// # Errors
    /// Why it is incomplete.
    pub fn finish_import(&mut self) -> Result<(), ClusterError> {
        self.receive(&format!("import-diff {}", self.temporary)).map(drop)
    }

    /// Gives the temporary image its name, and ends the process.
    ///
    /// # Errors
    /// Where the name is taken.
    pub fn rename(mut self) -> Result<(), ClusterError> {
        self.ask(&[RENAME], &format!("rename {} {}", self.temporary, self.image))?;
        // Its end gives up its lock.
        self.process.take().map_or(Ok(()), Import::finish)
    }

    /// What ends the process from another thread.
    #[must_use]
    pub fn stopper(&self) -> Option<Stopper> {
        self.process.as_ref().map(Import::stopper)
    }

    /// Makes a request, which errors call `what`; the reply.
    fn ask(&mut self, request: &[u8], what: &str) -> Result<Reply, ClusterError> {
        self.send(request, what)?;
        self.receive(what)
    }

    fn send(&mut self, request: &[u8], what: &str) -> Result<(), ClusterError> {
        match (&*self.requests).write_all(request) {
            Ok(()) => Ok(()),
            // It may have said why it ended.
            Err(_) => Err(self.receive(what).err().unwrap_or_else(|| self.ended(what))),
        }
    }

    fn receive(&mut self, what: &str) -> Result<Reply, ClusterError> {
        let Some(process) = &self.process else { return Err(self.ended(what)) };
        match process.while_waiting(|| Reply::read(&mut &self.replies)) {
            Ok(reply) if matches!(reply.code, 0 | MISSING) => Ok(reply),
            Ok(Reply { code, payload }) => {
                let reason = String::from_utf8_lossy(&payload).into_owned();
                Err(ClusterError::Failed { command: format!("librbd {what}"), code, reason })
            }
            Err(_) => Err(self.ended(what)),
        }
    }

    /// Why the process has ended without a reply.
    fn ended(&mut self, what: &str) -> ClusterError {
        match self.process.take().map(Import::finish) {
            Some(Err(error)) => error,
            _ => ClusterError::Unexpected {
                command: format!("librbd {what}"),
                output: "no reply".to_owned(),
            },
        }
    }
}
