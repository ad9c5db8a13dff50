//! Putting drivers in place.

use super::driver::{ACTIONS, DsMad};
use super::owner::give_to_oneadmin;
use super::rollback::{Step, Steps};
use super::{FrontEnd, InstallError, self_test, stock, trampoline};
use one_protocol::settings::value_of;
use runtime::process;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Puts the drivers of `mad` in place, tested before and after, and lists it as enabled. The stock scripts that they
/// replace are kept. `say` gets a line for each step.
///
/// With `dry_run`, `say` gets what would be done, and nothing is changed.
///
/// # Errors
/// [`InstallError`]; then everything is as before.
pub fn enable(
    front_end: &FrontEnd,
    mad: &DsMad,
    dry_run: bool,
    say: &mut dyn FnMut(String),
) -> Result<(), InstallError> {
    let files = front_end.files(mad)?;
    let steps = Steps::default();
    let placement = Placement { front_end, mad, files, steps };
    placement.check_place()?;
    if dry_run {
        return placement.describe(say);
    }
    let steps = placement.steps.clone();
    let _guard = process::on_stop(move || steps.undo_for_good());
    match placement.run(say) {
        Ok(()) => {
            placement.steps.finish();
            let work = front_end.work_directory(mad);
            fs::remove_dir_all(&work).map_err(InstallError::at("remove", &work))
        }
        Err(error) => {
            placement.steps.undo();
            Err(error)
        }
    }
}

/// Whether OpenNebula has been removed since `mad` was enabled: the directory is there, and none of its ten drivers.
#[must_use]
pub fn is_gone(front_end: &FrontEnd, mad: &DsMad) -> bool {
    let directory = front_end.directory(mad);
    directory.is_dir() && !ACTIONS.iter().any(|action| stock::exists(&directory.join(action)))
}

/// What `KIND` is in the configuration file of the DS_MAD: what is to be done with it.
#[derive(Debug, PartialEq, Eq)]
enum Conf {
    /// Nothing.
    Good,
    /// It must be written.
    Missing,
}

struct Placement<'a> {
    front_end: &'a FrontEnd,
    mad: &'a DsMad,
    files: Vec<&'static str>,
    steps: Steps,
}

impl Placement<'_> {
    fn directory(&self) -> PathBuf {
        self.front_end.directory(self.mad)
    }

    fn work(&self) -> PathBuf {
        self.front_end.work_directory(self.mad)
    }

    /// Whether there is an OpenNebula here, and its directories may be changed.
    fn check_place(&self) -> Result<(), InstallError> {
        let datastores = self.front_end.datastores();
        if !datastores.is_dir() && self.front_end.root.is_none() {
            return Err(InstallError::NoOpenNebula(datastores));
        }
        for directory in [datastores, self.directory()] {
            if directory.is_dir() {
                FrontEnd::check_writable(&directory)?;
            }
        }
        Ok(())
    }

    fn describe(&self, say: &mut dyn FnMut(String)) -> Result<(), InstallError> {
        let directory = self.directory();
        let foreign = self.foreign()?;
        if self.must_keep(&foreign) {
            let next = stock::next(self.front_end, self.mad);
            say(format!("would keep the stock scripts in {}", next.display()));
        }
        if self.conf()? == Conf::Missing {
            let conf = self.front_end.conf(self.mad);
            say(format!("would write {}: KIND={}", conf.display(), self.mad.kind));
        }
        say("would try the new drivers on a call or two".to_owned());
        let files = self.files.join(" ");
        say(format!("would put the ten drivers into {}: {files}", directory.display()));
        Ok(())
    }

    fn run(&self, say: &mut dyn FnMut(String)) -> Result<(), InstallError> {
        let datastores = self.front_end.datastores();
        let made = InstallError::at("create", &datastores);
        self.steps.make_directory(&datastores, &give_to_oneadmin).map_err(made)?;
        let _lock = self.front_end.lock()?;
        self.finish_killed_run();
        let foreign = self.foreign()?;
        let conf = self.conf()?;
        self.open_work()?;
        if conf == Conf::Missing {
            self.write_conf(say)?;
        }
        self.copy_drivers()?;
        // A driver that can't work here never reaches oned.
        self_test::run(self.front_end, self.mad, &self.work().join("new"))?;
        if self.must_keep(&foreign) {
            self.keep(&foreign, say)?;
        }
        self.list()?;
        self.put_in_place(&foreign)?;
        self_test::run(self.front_end, self.mad, &self.directory())?;
        say("tested  the drivers reply as they should".to_owned());
        let files = self.files.join(" ");
        say(format!("put     {files} into {}", self.directory().display()));
        Ok(())
    }

    /// The scripts that are about to be replaced.
    fn foreign(&self) -> Result<Vec<&'static str>, InstallError> {
        let directory = self.directory();
        let foreign = stock::foreign(&directory, &self.files)?;
        if foreign.is_empty() || self.mad.replaces_stock() {
            return Ok(foreign);
        }
        Err(InstallError::Foreign(directory))
    }

    /// Whether they are not kept yet.
    fn must_keep(&self, foreign: &[&str]) -> bool {
        let copies = stock::copies(self.front_end, self.mad);
        let directory = self.directory();
        foreign.iter().any(|file| {
            let kept = stock::kept(&copies, file);
            kept.is_none_or(|kept| !stock::same(&directory.join(file), &kept))
        })
    }

    /// What the configuration file of the DS_MAD lacks.
    fn conf(&self) -> Result<Conf, InstallError> {
        let path = self.front_end.conf(self.mad);
        let kind = self.mad.kind;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(if self.mad.replaces_stock() { Conf::Good } else { Conf::Missing });
            }
            Err(error) => return Err(InstallError::at("read", &path)(error)),
        };
        match value_of(&String::from_utf8_lossy(&text), "KIND") {
            Some(set) if set == kind => Ok(Conf::Good),
            Some(_) => Err(InstallError::OtherKind { path, kind }),
            None if self.mad.replaces_stock() => Ok(Conf::Good),
            None => Err(InstallError::NoKind { path, kind }),
        }
    }

    /// Makes the work directory. What a killed run left in it goes.
    fn open_work(&self) -> Result<(), InstallError> {
        let work = self.work();
        let make = || -> io::Result<()> {
            match fs::remove_dir_all(&work) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.steps.take(Step::Tree(work.clone()), || fs::create_dir(&work))?;
            fs::create_dir(work.join("new"))?;
            fs::create_dir(work.join("old"))?;
            fs::create_dir(work.join("run"))?;
            for directory in [work.clone(), work.join("new"), work.join("run")] {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
            }
            Ok(())
        };
        make().map_err(InstallError::at("create", &work))
    }

    fn write_conf(&self, say: &mut dyn FnMut(String)) -> Result<(), InstallError> {
        let conf = self.front_end.conf(self.mad);
        let new = self.work().join("conf");
        let write = || -> io::Result<()> {
            let directory = conf.parent().unwrap_or(Path::new("/"));
            self.steps.make_directory(directory, &give_to_oneadmin)?;
            fs::write(&new, format!("KIND={}\n", self.mad.kind))?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
            give_to_oneadmin(&new)?;
            File::open(&new)?.sync_all()?;
            self.steps.take(Step::File(conf.clone()), || fs::rename(&new, &conf))?;
            File::open(directory)?.sync_all()
        };
        write().map_err(InstallError::at("write", &conf))?;
        say(format!("wrote   {}", conf.display()));
        Ok(())
    }

    fn copy_drivers(&self) -> Result<(), InstallError> {
        for file in &self.files {
            let new = self.work().join("new").join(file);
            let copy = || -> io::Result<()> {
                fs::copy(self.front_end.drivers.join(file), &new)?;
                fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
                give_to_oneadmin(&new)?;
                File::open(&new)?.sync_all()
            };
            copy().map_err(InstallError::at("write", &new))?;
        }
        Ok(())
    }

    fn keep(
        &self,
        foreign: &[&'static str],
        say: &mut dyn FnMut(String),
    ) -> Result<(), InstallError> {
        let next = stock::next(self.front_end, self.mad);
        let new = self.work().join("stock");
        let keep = || -> io::Result<()> {
            stock::copy_files(&self.directory(), foreign, &new)?;
            self.steps.take(Step::Tree(next.clone()), || fs::rename(&new, &next))?;
            File::open(self.front_end.datastores())?.sync_all()
        };
        keep().map_err(InstallError::at("keep the stock scripts in", &next))?;
        say(format!("kept    the stock scripts in {}", next.display()));
        Ok(())
    }

    /// Before the first driver is in place: what a killed run leaves unfinished is finished by the next run.
    fn list(&self) -> Result<(), InstallError> {
        let Some(enabled) = &self.front_end.enabled else { return Ok(()) };
        if enabled.read()?.contains(self.mad) {
            return Ok(());
        }
        let (again, mad) = (super::Enabled::at(enabled.path().to_owned()), self.mad.clone());
        let undo = Step::Other(Box::new(move || {
            let _ = again.remove(&mad);
        }));
        self.steps.take(undo, || enabled.add(self.mad).map(drop))
    }

    /// Puts the drivers behind trampolines that a killed run has left, before its work directory goes. Where that
    /// fails, it only costs calls of this moment: the trampolines are replaced later on.
    fn finish_killed_run(&self) {
        for file in &self.files {
            let path = self.directory().join(file);
            if trampoline::is_trampoline(&path) {
                let _ = fs::rename(self.work().join("run").join(file), &path);
            }
        }
    }

    fn put_in_place(&self, foreign: &[&'static str]) -> Result<(), InstallError> {
        let directory = self.directory();
        let made = InstallError::at("create", &directory);
        self.steps.make_directory(&directory, &give_to_oneadmin).map_err(made)?;
        let trampolines = self.put_trampolines(foreign)?;
        for file in &self.files {
            let (path, new) = (directory.join(file), self.work().join("new").join(file));
            let put = if trampolines.contains(file) {
                fs::rename(&new, &path)
            } else {
                self.replace(file, &new)
            };
            put.map_err(InstallError::at("put a driver in place of", &path))?;
        }
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        synced.map_err(InstallError::at("write", &directory))
    }

    /// Puts the file at `new` in place of the one that stands for `file`.
    fn replace(&self, file: &str, new: &Path) -> io::Result<()> {
        let (path, old) = (self.directory().join(file), self.work().join("old").join(file));
        let step = if stock::exists(&path) {
            stock::second_name(&path, &old)?;
            Step::Replaced(path.clone(), old)
        } else {
            Step::File(path.clone())
        };
        self.steps.take(step, || fs::rename(new, &path))
    }

    /// Puts trampolines in place of scripts that calls may begin with in this moment, and waits until the shells
    /// that were started for these have opened them. Which files have one.
    fn put_trampolines(&self, foreign: &[&'static str]) -> Result<Vec<&'static str>, InstallError> {
        let mut put = Vec::new();
        for file in foreign.iter().filter(|file| ACTIONS.contains(file)) {
            let path = self.directory().join(file);
            let driver = self.work().join("run").join(file);
            let text = trampoline::text(&self.front_end.as_started(&driver));
            let Some(text) = text.filter(|_| trampoline::is_shell_script(&path)) else { continue };
            let new = self.work().join("trampoline");
            let place = || -> io::Result<()> {
                stock::second_name(&self.work().join("new").join(file), &driver)?;
                fs::write(&new, text)?;
                fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
                give_to_oneadmin(&new)?;
                File::open(&new)?.sync_all()?;
                self.replace(file, &new)
            };
            place().map_err(InstallError::at("put a driver in place of", &path))?;
            put.push(*file);
        }
        if !put.is_empty() {
            std::thread::sleep(trampoline::SHELL_START);
        }
        Ok(put)
    }
}
