//! What is written to the other side of a connection.

use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// What is written to the other side; each frame in one piece, whichever thread writes it.
#[derive(Clone)]
pub(super) struct Out(Arc<Mutex<BufWriter<UnixStream>>>);

impl Out {
    pub(super) fn new(stream: BufWriter<UnixStream>) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    fn locked<T>(&self, act: impl FnOnce(&mut BufWriter<UnixStream>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.locked(|out| out.write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.locked(|out| out.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.locked(Write::flush)
    }
}
