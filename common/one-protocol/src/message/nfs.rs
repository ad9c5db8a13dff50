//! The NFS export that a datastore asks to be mounted: `NFS_AUTO_HOST`, `NFS_AUTO_PATH`, `NFS_AUTO_OPTS`.
//!
//! The values become arguments of `mount(8)`, each as it is, so they are checked for what could make it do
//! something else.

use super::{MessageError, required, wire};
use runtime::mount::NfsExport;

const HOST: &str = "DATASTORE/TEMPLATE/NFS_AUTO_HOST";
const PATH: &str = "DATASTORE/TEMPLATE/NFS_AUTO_PATH";
const OPTIONS: &str = "DATASTORE/TEMPLATE/NFS_AUTO_OPTS";

/// Options with which `mount` would do something else than mount an export, or not wait for it.
const OTHER_OPERATIONS: [&str; 15] = [
    "bind",
    "rbind",
    "move",
    "remount",
    "loop",
    "offset",
    "sizelimit",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "bg",
    "noauto",
];

/// The export that a datastore's template names.
///
/// # Errors
/// Where host or path is missing, or one of the three is not what it should be.
pub(super) fn export_of(template: &wire::DatastoreTemplate) -> Result<NfsExport, MessageError> {
    let host = required(HOST, template.nfs_auto_host.trim(), "name the NFS server")?;
    let path = required(PATH, template.nfs_auto_path.trim(), "name the NFS export")?;
    let options = template.nfs_auto_opts.trim();
    let invalid = |attribute, value: &str, rule| {
        Err(MessageError::Invalid { attribute, value: value.to_owned(), rule })
    };
    if !is_host(host) {
        return invalid(HOST, host, "the name or address of a host");
    }
    if !is_path(path) {
        return invalid(PATH, path, "an absolute path without '..' or control characters");
    }
    if !options.is_empty() && !options.split(',').all(is_option) {
        return invalid(
            OPTIONS,
            options,
            "options of mount.nfs, separated by commas: words of letters, digits and _ - . : / @ + % ! =, and none that does something else (bind, move, remount, loop, bg, ...)",
        );
    }
    let source = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{path}")
    } else {
        format!("{host}:{path}")
    };
    Ok(NfsExport { source, options: options.to_owned() })
}

fn is_host(host: &str) -> bool {
    let inner = match host.strip_prefix('[') {
        Some(rest) => match rest.strip_suffix(']') {
            Some(address) if address.contains(':') => address,
            _ => return false,
        },
        None => host,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !inner.contains(':') {
        return !inner.is_empty() && !inner.starts_with(['-', '.']) && inner.chars().all(plain);
    }
    // The zone of a link-local address comes behind a '%'.
    let (address, zone) = inner.split_once('%').unwrap_or((inner, "none"));
    address.parse::<std::net::Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(plain)
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.split('/').any(|part| part == "..")
        && !path.chars().any(char::is_control)
}

fn is_option(option: &str) -> bool {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.:/@+%!".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && value.chars().all(|c| word(c) || c == '=')
        && !OTHER_OPERATIONS.contains(&name.to_ascii_lowercase().as_str())
        && !name.to_ascii_lowercase().starts_with("x-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn export(host: &str, path: &str, options: &str) -> Result<NfsExport, MessageError> {
        export_of(&wire::DatastoreTemplate {
            nfs_auto_host: host.to_owned(),
            nfs_auto_path: path.to_owned(),
            nfs_auto_opts: options.to_owned(),
            ..wire::DatastoreTemplate::default()
        })
    }

    #[test]
    fn an_export_is_what_mount_takes() {
        for (host, path, source) in [
            ("nas", "/srv/share1", "nas:/srv/share1"),
            (" 192.168.150.10 ", "/", "192.168.150.10:/"),
            ("fd00::1", "/a b", "[fd00::1]:/a b"),
            ("[fe80::1%eth0]", "/x,y", "[fe80::1%eth0]:/x,y"),
        ] {
            assert_eq!(export(host, path, "").unwrap().source, source);
        }
        for options in [
            "soft,intr,rsize=32768,wsize=32768",
            "vers=4.2",
            "defaults",
            "sec=krb5p,clientaddr=fd00::2",
            "_netdev",
        ] {
            let accepted = export("nas", "/x", options);
            if options.starts_with('_') {
                accepted.unwrap_err();
            } else {
                assert_eq!(accepted.unwrap().options, options);
            }
        }
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        for host in
            ["", "-o", ".x", "a b", "a,b", "a:b", "[nas]", "[::1", "$(id)", "a\nb", "::1%", "a/b"]
        {
            assert!(export(host, "/x", "").is_err(), "{host}");
        }
        for path in ["", "x", "-x", "../x", "/a/../b", "/a\nb", "/a\u{1b}"] {
            assert!(export("nas", path, "").is_err(), "{path}");
        }
        for options in [
            "-o",
            "soft,",
            ",",
            "a b",
            "soft,,hard",
            "bind",
            "soft,remount",
            "BG",
            "x-mount.mkdir",
            "a='b'",
            "a=\"b\"",
            "a=$(id)",
            "a\nb",
            "a;b",
            "1a",
            "=x",
            "loop=/dev/loop0",
        ] {
            assert!(export("nas", "/x", options).is_err(), "{options}");
        }
    }
}
