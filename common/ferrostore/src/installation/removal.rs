//! Taking drivers out, and putting the stock scripts back.

use super::driver::{ACTIONS, BY_HAND, DsMad};
use super::{FrontEnd, InstallError, is_gone, stock};
use one_protocol::settings::value_of;
use runtime::process;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Takes the drivers of `mad` out and puts the stock scripts back, byte for byte. What OpenNebula, or an
/// administrator, has put there since is left alone. With `unlist`, it isn't listed as enabled any more.
///
/// A run that is killed in between is finished by the next one. `say` gets a line for each step; with `dry_run`, what
/// would be done.
///
/// # Errors
/// [`InstallError`].
pub fn disable(
    front_end: &FrontEnd,
    mad: &DsMad,
    unlist: bool,
    dry_run: bool,
    say: &mut dyn FnMut(String),
) -> Result<(), InstallError> {
    let directory = front_end.directory(mad);
    let unlist = || match &front_end.enabled {
        Some(enabled) if unlist && !dry_run => enabled.remove(mad),
        _ => Ok(()),
    };
    if !directory.is_dir() {
        unlist()?;
        say(format!("nothing to do: {} does not exist", directory.display()));
        return Ok(());
    }
    let names = ACTIONS.iter().chain(&BY_HAND).copied();
    let ours: Vec<&str> = names.filter(|file| stock::is_ours(&directory.join(file))).collect();
    if dry_run {
        describe(&directory, &ours, say);
        return Ok(());
    }
    let left_over = !stock::copies(front_end, mad).is_empty();
    if ours.is_empty() && !left_over && !front_end.work_directory(mad).exists() {
        unlist()?;
        say(format!("nothing to do: no ferrostore drivers in {}", directory.display()));
        return Ok(());
    }
    for path in [front_end.datastores(), directory.clone()] {
        FrontEnd::check_writable(&path)?;
    }
    let _lock = front_end.lock()?;
    let gone = is_gone(front_end, mad) && front_end.version().is_none();
    // From here on it takes moments: a signal comes too late.
    process::mark_committed();
    // First: a run that is killed from here on is finished by the next one, and by no trigger undone.
    unlist()?;
    let restored = put_back(front_end, mad, &ours)?;
    remove_copies(front_end, mad, gone)?;
    remove_conf(front_end, mad)?;
    let _ = fs::remove_dir(&directory);
    if !ours.is_empty() {
        say(format!("took    {} files out of {}", ours.len(), directory.display()));
    }
    if restored > 0 {
        say(format!("put     back the stock scripts: {restored}"));
    } else if mad.replaces_stock() && !ours.is_empty() && !gone {
        say("warning: there were no stock scripts to put back; reinstall OpenNebula's package to get them".to_owned());
    }
    trash_notes(front_end, say);
    if !mad.replaces_stock() {
        say(format!(
            "Take {} out of DATASTORE_MAD and DS_MAD_CONF in {} and restart oned.",
            mad.name,
            front_end.oned_conf.display()
        ));
    }
    Ok(())
}

/// What was deleted and is kept yet: nothing else will know of it.
fn trash_notes(front_end: &FrontEnd, say: &mut dyn FnMut(String)) {
    let var = front_end.remotes.parent().unwrap_or(Path::new("/"));
    for datastore in fs::read_dir(var.join("datastores")).into_iter().flatten().flatten() {
        let trash = datastore.path().join(".ferrostore-trash");
        let Ok(entries) = fs::read_dir(&trash) else { continue };
        let count = entries.flatten().filter(|entry| entry.path().is_dir()).count();
        say(format!(
            "note: {} keeps deleted images: {count}. The stock scripts will never remove them: restore or delete them \
             with `ferrostore trash`, or remove that directory",
            trash.display()
        ));
    }
}

fn describe(directory: &Path, ours: &[&str], say: &mut dyn FnMut(String)) {
    for file in ours {
        say(format!("would take out {}", directory.join(file).display()));
    }
    if ours.is_empty() {
        say(format!("nothing to do: no ferrostore drivers in {}", directory.display()));
    } else {
        say("would put the stock scripts back and remove the copies that are no longer needed"
            .to_owned());
    }
}

/// Puts the newest stock script in the place of each driver, by one rename. How many there were.
fn put_back(front_end: &FrontEnd, mad: &DsMad, ours: &[&str]) -> Result<usize, InstallError> {
    let directory = front_end.directory(mad);
    let copies = stock::copies(front_end, mad);
    let mut restored = 0;
    for file in ours {
        let path = directory.join(file);
        match stock::kept(&copies, file) {
            Some(kept) => {
                fs::rename(&kept, &path).map_err(InstallError::at("put back", &path))?;
                restored += 1;
            }
            None => fs::remove_file(&path).map_err(InstallError::at("remove", &path))?,
        }
    }
    let synced = File::open(&directory).and_then(|directory| directory.sync_all());
    synced.map_err(InstallError::at("write", &directory))?;
    Ok(restored)
}

/// A copy goes when a script that is not ours stands in the place of each in it: without these drivers, there
/// would be only that one. Where OpenNebula itself is `gone`, there is nothing to put back, and all copies go.
fn remove_copies(front_end: &FrontEnd, mad: &DsMad, gone: bool) -> Result<(), InstallError> {
    let directory = front_end.directory(mad);
    let copies = stock::copies(front_end, mad);
    let remove = |path: &PathBuf| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::at("remove", path)(error))
        }
        _ => Ok(()),
    };
    // Newest first, so that those that stay are numbered without a gap.
    for copy in copies {
        let files = fs::read_dir(&copy).map_err(InstallError::at("read", &copy))?;
        let needed = files.flatten().any(|entry| {
            let place = directory.join(entry.file_name());
            !stock::exists(&place) || stock::is_ours(&place)
        });
        if needed && !gone {
            break;
        }
        remove(&copy)?;
    }
    remove(&front_end.work_directory(mad))
}

/// The configuration file of a DS_MAD with a name of its own goes where it holds nothing but the kind.
fn remove_conf(front_end: &FrontEnd, mad: &DsMad) -> Result<(), InstallError> {
    let conf = front_end.conf(mad);
    let Ok(text) = fs::read_to_string(&conf) else { return Ok(()) };
    let only_kind = text.trim().lines().count() == 1 && value_of(&text, "KIND").is_some();
    if mad.replaces_stock() || !only_kind {
        return Ok(());
    }
    fs::remove_file(&conf).map_err(InstallError::at("remove", &conf))?;
    if let Some(directory) = conf.parent() {
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}
