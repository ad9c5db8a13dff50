//! The list of what is enabled, which an administrator may read and change.

use super::{DsMad, InstallError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The list of what is enabled: a line `KIND` or `KIND NAME` for each; `#` begins a comment.
#[derive(Debug)]
pub struct Enabled {
    path: PathBuf,
}

impl Enabled {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is enabled; nothing where there is no list.
    ///
    /// # Errors
    /// [`InstallError::File`], [`InstallError::Listed`].
    pub fn read(&self) -> Result<Vec<DsMad>, InstallError> {
        let text = self.text()?;
        let lines = text.lines().enumerate().filter(|(_, line)| !words(line).is_empty());
        lines.map(|(at, line)| self.parse(at + 1, line)).collect()
    }

    /// Adds a line, unless it is there.
    ///
    /// # Errors
    /// As [`Self::read`]. Whether it was added.
    pub(super) fn add(&self, mad: &DsMad) -> Result<bool, InstallError> {
        if self.read()?.contains(mad) {
            return Ok(false);
        }
        let mut text = self.text()?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.write(&format!("{text}{mad}\n"))?;
        Ok(true)
    }

    /// Takes the line out.
    ///
    /// # Errors
    /// As [`Self::read`]. Lines that make no sense stay.
    pub(super) fn remove(&self, mad: &DsMad) -> Result<(), InstallError> {
        let text = self.text()?;
        let is_it = |line: &&str| self.parse(0, line).is_ok_and(|listed| listed == *mad);
        let rest: Vec<&str> = text.lines().filter(|line| !is_it(line)).collect();
        if rest.len() == text.lines().count() {
            return Ok(());
        }
        let rest: String = rest.iter().flat_map(|line| [*line, "\n"]).collect();
        self.write(&rest)
    }

    fn parse(&self, line: usize, text: &str) -> Result<DsMad, InstallError> {
        let wrong = |reason: String| InstallError::Listed {
            path: self.path.clone(),
            line,
            text: text.to_owned(),
            reason,
        };
        match words(text)[..] {
            [kind] => DsMad::new(kind, None).map_err(|error| wrong(error.to_string())),
            [kind, name] => DsMad::new(kind, Some(name)).map_err(|error| wrong(error.to_string())),
            _ => Err(wrong("correct the line, or put '#' before it".to_owned())),
        }
    }

    fn text(&self) -> Result<String, InstallError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(InstallError::at("read", &self.path)(error)),
        }
    }

    /// Old list or new list, never between.
    fn write(&self, text: &str) -> Result<(), InstallError> {
        const MODE: u32 = 0o644;
        let new = self.path.with_extension("new");
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let write = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(MODE).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(InstallError::at("write", &self.path))
    }
}

/// The words of a line, without its comment.
fn words(line: &str) -> Vec<&str> {
    line.split('#').next().unwrap_or_default().split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_come_and_go_and_comments_stay() {
        let directory = tempfile::tempdir().unwrap();
        let enabled = Enabled::at(directory.path().join("ferrostore/enabled"));
        let fs = DsMad::new("fs", None).unwrap();
        let own = DsMad::new("lvm", Some("san")).unwrap();
        assert_eq!(enabled.read().unwrap(), []);
        assert!(enabled.add(&fs).unwrap());
        std::fs::write(enabled.path(), "# ours\n\nfs # all of them").unwrap();
        assert!(enabled.add(&own).unwrap() && !enabled.add(&own).unwrap());
        assert_eq!(enabled.read().unwrap(), [fs.clone(), own.clone()]);
        enabled.remove(&fs).unwrap();
        assert_eq!(std::fs::read_to_string(enabled.path()).unwrap(), "# ours\n\nlvm san\n");
        enabled.remove(&fs).unwrap();
        assert_eq!(enabled.read().unwrap(), [own]);
        assert!(!enabled.path().with_extension("new").exists());
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named_and_never_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let enabled = Enabled::at(directory.path().join("enabled"));
        std::fs::write(enabled.path(), "fs\nfs a b\nnfs\n").unwrap();
        let why = enabled.read().unwrap_err().to_string();
        assert!(why.starts_with("line 2 of ") && why.contains("\"fs a b\""), "{why}");
        enabled.remove(&DsMad::new("fs", None).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(enabled.path()).unwrap(), "fs a b\nnfs\n");
    }
}
