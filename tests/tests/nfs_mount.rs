//! `NFS_AUTO_ENABLE`: what is asked of `mount`, and everything that keeps an export from being mounted. The
//! tests need no NFS server; those with one are in `nfs`.

use ferrostore_tests::{Call, Cloud, Disk, Listing, MIB, Rule, run, write_script};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const ENABLE: &str = "DATASTORE/TEMPLATE/NFS_AUTO_ENABLE";
const HOST: &str = "DATASTORE/TEMPLATE/NFS_AUTO_HOST";
const PATH: &str = "DATASTORE/TEMPLATE/NFS_AUTO_PATH";
const OPTIONS: &str = "DATASTORE/TEMPLATE/NFS_AUTO_OPTS";

trait OnNfs {
    fn on_nfs(self) -> Self;
}

impl OnNfs for Call<'_> {
    fn on_nfs(self) -> Self {
        // Port 9, "discard": nothing listens.
        self.set(ENABLE, "YES").set(HOST, "127.0.0.1").set(PATH, "/export").set(OPTIONS, "port=9")
    }
}

/// Programs that stand in the place of `mount`, `mount.nfs` and `sudo` for one driver: a folder that is laid over
/// `/usr/local/sbin`, where drivers look first, in a mount namespace of the driver's own.
struct StandIn(PathBuf);

impl StandIn {
    /// `script` is the body of `mount`.
    fn new(cloud: &Cloud, script: &str) -> Self {
        let folder = cloud.root().join("stand-in");
        fs::create_dir(&folder).unwrap();
        let stand_in = Self(folder);
        stand_in.program("mount", &format!("{}{script}", stand_in.recording("arguments")));
        stand_in.program("mount.nfs", "exit 1");
        stand_in
    }

    fn program(&self, name: &str, body: &str) {
        write_script(self.0.join(name), body);
    }

    fn recording(&self, name: &str) -> String {
        format!("printf '%s\\n' \"$0\" \"$@\" >{}\n", self.0.join(name).display())
    }

    fn around(&self) -> Vec<OsString> {
        let script = "mount --bind \"$0\" /usr/local/sbin; exec \"$@\"";
        ["unshare", "--mount", "sh", "-ec", script]
            .map(OsString::from)
            .into_iter()
            .chain([self.0.clone().into()])
            .collect()
    }

    /// What a program was called with, its name first; `None`: it was not called.
    fn called(&self, name: &str) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.0.join(name)).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }
}

#[test]
fn an_export_that_can_t_be_mounted_is_an_error_and_nothing_is_written() {
    let cloud = Cloud::new();
    for (_, call) in cloud.every_action(cloud.raw("disk.img", MIB), cloud.source(1)) {
        call.on_nfs()
            .run()
            .refused(Rule::NotInstalled)
            .naming("NFS_AUTO_HOST")
            .saying("127.0.0.1:/export");
    }
    assert_eq!(Listing::of(&cloud.datastore()).names(), [""; 0]);
}

#[test]
fn nothing_is_mounted_for_a_datastore_that_does_not_ask_for_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let stand_in = StandIn::new(&cloud, "exit 1");
    for enable in ["no", "NO", ""] {
        let call = cloud.cp(&disk).on_nfs().set(ENABLE, enable).under(stand_in.around());
        call.run().succeeds().image("raw");
    }
    assert_eq!(stand_in.called("arguments"), None);
}

#[test]
fn another_thing_that_is_mounted_there_is_left_alone() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(8 * MIB));
    for (_, call) in cloud.every_action(cloud.raw("disk.img", MIB), cloud.source(1)) {
        let failure = call.on_nfs().run().refused(Rule::OtherMount);
        failure.naming("DATASTORE/BASE_PATH").saying("tmpfs").saying("127.0.0.1:/export");
    }
}

#[test]
fn the_values_reach_mount_as_they_are_each_as_one_argument() {
    let cloud = Cloud::new();
    let stand_in = StandIn::new(&cloud, "");
    let mount = || stand_in.called("arguments").unwrap();
    let base_path = cloud.datastore().display().to_string();
    let double = cloud.base_path();
    for (host, path, options, source, given) in [
        ("nas.example.com", "/srv/share1", "", "nas.example.com:/srv/share1", "retry=0"),
        ("192.0.2.1", "/", "soft,vers=3", "192.0.2.1:/", "soft,vers=3,retry=0"),
        ("2001:db8::1", "/a b;$(c)'\"`d`*", "retry=1", "[2001:db8::1]:/a b;$(c)'\"`d`*", "retry=1"),
        ("nas", "/-o", "sec=krb5p", "nas:/-o", "sec=krb5p,retry=0"),
    ] {
        let call = cloud.monitor().on_nfs().set(HOST, host).set(PATH, path).set(OPTIONS, options);
        let failure = call.under(stand_in.around()).run().fails();
        failure.naming("NFS_AUTO_OPTS").saying("although mount succeeded");
        let mut arguments = mount();
        let place = arguments.pop().unwrap();
        assert!(place == base_path || place == double, "{place}");
        let program = "/usr/local/sbin/mount";
        assert_eq!(arguments, [program, "-t", "nfs", "-o", given, source]);
    }
}

#[test]
fn another_user_than_root_mounts_through_sudo() {
    let cloud = Cloud::new();
    let stand_in = StandIn::new(&cloud, "");
    let refuse = "echo 'sudo: a password is required' >&2; exit 1";
    stand_in.program("sudo", &format!("{}{refuse}", stand_in.recording("sudo-arguments")));
    cloud.hand_over_to(12345);
    fs::set_permissions(&stand_in.0, fs::Permissions::from_mode(0o777)).unwrap();
    // The namespace is root's; the driver, a copy that anyone can reach, is the user's.
    let driver = cloud.root().join("monitor");
    run("cp", [ferrostore_tests::executable("monitor"), driver.clone()]);
    let script = "mount --bind \"$0\" /usr/local/sbin; driver=$1; shift 2; \
                  exec setpriv --reuid 12345 --clear-groups \"$driver\" \"$@\"";
    let around = ["unshare", "--mount", "sh", "-ec", script].map(OsString::from).into_iter();
    let around = around.chain([stand_in.0.clone().into(), driver.into()]);
    let call = cloud.monitor().on_nfs().under(around);
    call.run().fails().naming("NFS_AUTO_HOST").saying("a password is required").saying("sudo");
    let arguments = stand_in.called("sudo-arguments").unwrap();
    assert_eq!(arguments[1..6], ["-n", "/usr/local/sbin/mount", "-t", "nfs", "-o"]);
    assert_eq!(stand_in.called("arguments"), None);
}

#[test]
fn what_mount_mounts_instead_is_noticed() {
    let cloud = Cloud::new();
    // The last argument is the place.
    let script = "for place; do :; done; exec /usr/bin/mount -t tmpfs 127.0.0.1:/export \"$place\"";
    let stand_in = StandIn::new(&cloud, script);
    for call in [cloud.mkfs("raw", "1"), cloud.monitor()] {
        let failure = call.on_nfs().under(stand_in.around()).run().refused(Rule::OtherMount);
        failure.naming("DATASTORE/BASE_PATH").saying("(tmpfs)");
    }
}

#[test]
fn a_mount_that_never_ends_is_given_up() {
    let cloud = Cloud::new();
    let stand_in = StandIn::new(&cloud, "exec sleep 1000");
    let failure = cloud.monitor().on_nfs().under(stand_in.around()).run().fails();
    failure.naming("NFS_AUTO_HOST").saying("timed out after");
}

#[test]
fn a_missing_base_path_is_made_to_be_mounted_on() {
    let cloud = Cloud::new();
    fs::remove_dir(cloud.datastore()).unwrap();
    let stand_in = StandIn::new(&cloud, "for place; do :; done; [ -d \"$place\" ] || exit 77");
    let failure = cloud.monitor().on_nfs().under(stand_in.around()).run().fails();
    failure.saying("although mount succeeded");
}

#[test]
fn values_that_mount_could_take_for_something_else_are_refused() {
    let cloud = Cloud::new();
    let stand_in = StandIn::new(&cloud, "exit 1");
    let refused = |attribute, value: &str| {
        println!("{attribute} {value:?}");
        let call = cloud.monitor().on_nfs().set(attribute, value);
        call.under(stand_in.around())
            .run()
            .refused_by_any(&[Rule::MissingAttribute, Rule::NotValid])
            .naming(attribute);
    };
    for host in ["", " ", "-oexec", "a b", "a,b", "nas:/x", "$(id)", "a\nb", "[nas]", "..", "nas/x"]
    {
        refused(HOST, host);
    }
    for path in ["", "srv", "-x", "../etc", "/srv/../etc", "/a\nb", "/a\u{1b}[31m"] {
        refused(PATH, path);
    }
    for options in [
        "-v",
        "--bind",
        "bind",
        "soft,remount",
        "loop",
        "bg",
        "soft,,hard",
        "soft,",
        "a b",
        "a\nb",
        "x-mount.mkdir=/etc",
        "helper;id",
        "a=$(id)",
        "a=`id`",
        "a='b'",
        "a\u{0}b",
    ] {
        refused(OPTIONS, options);
    }
    for missing in [HOST, PATH] {
        cloud
            .monitor()
            .on_nfs()
            .without(missing)
            .run()
            .refused(Rule::MissingAttribute)
            .naming(missing);
    }
    assert_eq!(stand_in.called("arguments"), None, "mount was never asked");
}
