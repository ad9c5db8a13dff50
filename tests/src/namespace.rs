//! Mount namespaces in which ssh and sshd have users, keys and configuration of their own.
//!
//! Both find their files in the home directory that `/etc/passwd` names. A file mounted over `/etc/passwd` would
//! vanish as soon as another program replaces that file on this machine (`apt-get` and `useradd` do), so the whole
//! of `/etc` is another one: a read-only overlay with two files in front of this machine's.

use crate::run;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// `$1`: the home directory; `$2`: where sshd shall run, its new `/var/tmp` or `.` for none, else empty; the rest is
/// run. sshd insists on a directory that only root can write to.
const ENTER: &str = "mount -t overlay overlay -o \"lowerdir=$1/etc:/etc\" /etc && \
    if [ \"$2\" ]; then mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd; fi && \
    case \"$2\" in /*) mount --bind \"$2\" /var/tmp ;; esac && shift 2 && exec \"$@\"";

fn enter(home: &Path, server: &Path) -> Vec<OsString> {
    let words = ["unshare", "--mount", "/bin/sh", "-c", ENTER, "sh"].map(OsString::from);
    words.into_iter().chain([home.into(), server.into()]).collect()
}

/// The program (with arguments) under which ssh finds its files below `home`.
pub(crate) fn client(home: &Path) -> Vec<OsString> {
    enter(home, Path::new(""))
}

/// The program (with arguments) under which sshd finds its files below `home`, with another `/var/tmp` if given.
pub(crate) fn server(home: &Path, var_tmp: Option<&Path>) -> Vec<OsString> {
    enter(home, var_tmp.unwrap_or(Path::new(".")))
}

/// Makes a key pair: `path`, and beside it `path` with `.pub`.
pub(crate) fn key(path: &Path) {
    run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
}

/// Makes root's home directory `home` with the login shell `shell`: the files of `/etc`, and `.ssh` (returned) with a
/// key that may log in and a key for an sshd.
pub(crate) fn furnish(home: &Path, shell: &str) -> PathBuf {
    let etc = home.join("etc");
    fs::create_dir(&etc).unwrap();
    let passwd = format!(
        "root:x:0:0:root:{}:{shell}\nsshd:x:65533:65534::/nonexistent:/usr/sbin/nologin\n",
        home.display()
    );
    fs::write(etc.join("passwd"), passwd).unwrap();
    fs::write(etc.join("shadow"), "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n").unwrap();
    let ssh = home.join(".ssh");
    fs::create_dir(&ssh).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["id_ed25519", "host_key"] {
        key(&ssh.join(name));
    }
    fs::copy(ssh.join("id_ed25519.pub"), ssh.join("authorized_keys")).unwrap();
    ssh
}

/// The configuration of an sshd with the key `host_key`, for those who may log in by the directory `ssh`.
pub(crate) fn sshd_config(ssh: &Path, host_key: &Path) -> String {
    format!(
        "HostKey {}\nPidFile none\nAuthorizedKeysFile {}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\nMaxStartups 100\nLogLevel VERBOSE\n",
        host_key.display(),
        ssh.display()
    )
}
