//! Why a program of Ceph failed, or what is done in its stead by librbd.

use super::CommandError;
use nix::errno::Errno;

/// Why a program of Ceph failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It can't be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It failed, and said why.
    #[error("`{command}` failed ({}): {reason}", Errno::from_raw(*code).desc())]
    Failed {
        /// The program and what it was to do.
        command: String,
        /// Its exit code, which is an error number of the system.
        code: i32,
        /// What it said.
        reason: String,
    },
    /// It was not done in time.
    #[error("`{command}` timed out after {seconds} s")]
    TimedOut {
        /// The program and what it was to do.
        command: String,
        /// How long it had, s.
        seconds: u64,
    },
    /// It printed what it should not have.
    #[error("`{command}` printed unexpected output: {output}")]
    Unexpected {
        /// The program and what it was to do.
        command: String,
        /// The beginning of what it printed.
        output: String,
    },
}

/// What kept a program from its work, as far as its exit code and words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The monitors don't answer.
    Monitors,
    /// The monitors refuse the user or the key.
    Credentials,
    /// There is no such pool.
    Pool,
    /// An operation on an object was not done in time.
    Objects,
    /// The user may not do this.
    Permission,
    /// The pool, or its quota, is full.
    Space,
    /// There is no such pool for the data.
    DataPool,
    /// Something else.
    Other,
}

impl ClusterError {
    fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Failed { code, .. } if *code == errno as i32)
    }

    fn says(&self, words: &str) -> bool {
        matches!(self, Self::Failed { reason, .. } if reason.contains(words))
    }

    /// Whether what the program was to work on is not there, although the pool is.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.is(Errno::ENOENT) && self.obstacle() == Obstacle::Other
    }

    /// Whether a name is taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.is(Errno::EEXIST)
    }

    /// Whether an image has snapshots left.
    #[must_use]
    pub fn has_snapshots(&self) -> bool {
        self.is(Errno::ENOTEMPTY)
    }

    /// Whether something still uses what the program was to change.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is(Errno::EBUSY)
    }

    /// Whether it was killed: what it was to do may be done.
    #[must_use]
    pub fn was_cut_off(&self) -> bool {
        self.is(Errno::EINTR) || self.is_timeout()
    }

    /// Whether it was not done in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// Whether the arguments don't fit the state of things: a snapshot that is not protected.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.is(Errno::EINVAL)
    }

    /// Whether the user may not do this.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.obstacle() == Obstacle::Permission
    }

    /// What kept the program from its work.
    #[must_use]
    pub fn obstacle(&self) -> Obstacle {
        let Self::Failed { code, .. } = self else {
            return match self {
                Self::TimedOut { .. } => Obstacle::Objects,
                _ => Obstacle::Other,
            };
        };
        let connecting = ["couldn't connect to the cluster", "error connecting to the cluster"]
            .iter()
            .any(|words| self.says(words));
        match Errno::from_raw(*code) {
            Errno::ETIMEDOUT if connecting => Obstacle::Monitors,
            // `ceph` is no binary of librados: it exits with 1 and writes the number.
            _ if connecting && self.says("[errno 110]") => Obstacle::Monitors,
            _ if connecting => Obstacle::Credentials,
            Errno::ENOENT if self.says("error opening pool") => Obstacle::Pool,
            Errno::ENOENT if self.says("data pool") => Obstacle::DataPool,
            Errno::ETIMEDOUT => Obstacle::Objects,
            Errno::EPERM | Errno::EACCES => Obstacle::Permission,
            Errno::ENOSPC | Errno::EDQUOT => Obstacle::Space,
            _ => Obstacle::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, reason: &str) -> ClusterError {
        ClusterError::Failed { command: "rbd ls".into(), code, reason: reason.into() }
    }

    #[test]
    fn exit_codes_and_words_tell_what_is_in_the_way() {
        let connect = "rbd: couldn't connect to the cluster!; rbd: listing images failed";
        assert_eq!(failed(110, connect).obstacle(), Obstacle::Monitors);
        let ceph = "[errno 110] RADOS timed out (error connecting to the cluster)";
        assert_eq!(failed(1, ceph).obstacle(), Obstacle::Monitors);
        assert_eq!(failed(2, connect).obstacle(), Obstacle::Credentials);
        assert_eq!(failed(13, connect).obstacle(), Obstacle::Credentials);
        assert_eq!(failed(2, "rbd: error opening pool 'x'").obstacle(), Obstacle::Pool);
        assert_eq!(failed(110, "rbd: create error").obstacle(), Obstacle::Objects);
        assert_eq!(failed(1, "rbd: create error").obstacle(), Obstacle::Permission);
        assert_eq!(failed(122, "rbd: import failed").obstacle(), Obstacle::Space);
        assert!(failed(2, "rbd: delete error").is_missing());
        assert!(
            !failed(2, connect).is_missing() && !failed(2, "error opening pool 'x'").is_missing()
        );
        let text = failed(39, "rbd: image has snapshots").to_string();
        assert_eq!(text, "`rbd ls` failed (Directory not empty): rbd: image has snapshots");
    }
}
