//! What may become of a program of Ceph that a driver runs: it is killed before it begins, or once it has done its
//! work, or it is slow.

use crate::{Call, Ceph, run};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of one `rbd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramFault {
    /// It fails before it has done anything.
    Fails,
    /// It is killed before it has done anything.
    KilledBefore,
    /// It does what it is to do, and is killed before it can say so.
    KilledAfter,
}

impl ProgramFault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fails, Self::KilledBefore, Self::KilledAfter];

    fn words(self) -> &'static str {
        match self {
            Self::Fails => "echo 'rbd: error: (5) Input/output error' >&2; exit 5",
            Self::KilledBefore => "kill -KILL $$",
            Self::KilledAfter => "\"$real\" \"$@\"; kill -KILL $$",
        }
    }
}

impl Ceph {
    /// A call for which every `rbd` begins with these words of a shell: `$number` is how many there have been, from 1,
    /// and `$real` the program itself, which follows. From then on, librbd is used for no call.
    pub fn with_rbd<'c>(&self, call: Call<'c>, words: &str) -> Call<'c> {
        self.use_librbd("NO");
        let count = self.count();
        fs::write(&count, "0").unwrap();
        let count = count.display();
        let wrapper = self.cloud.root().join("rbd");
        // Two may begin at once.
        let script = format!(
            "#!/bin/sh\nreal=/usr/bin/rbd\n\
             number=$(flock '{count}' sh -c 'n=$(($(cat \"$0\") + 1)); echo $n >\"$0\"; echo $n' '{count}')\n\
             {words}\nexec \"$real\" \"$@\"\n"
        );
        fs::write(&wrapper, script).unwrap();
        // Programs are looked for in /usr/local/sbin first.
        let enter = format!(
            "mount -t tmpfs none /usr/local/sbin && install -m 755 '{}' /usr/local/sbin/rbd && exec \"$0\" \"$@\"",
            wrapper.display()
        );
        call.under(["unshare", "--mount", "sh", "-c", &enter])
    }

    /// A call of which the `rbd` of this number fails or is killed.
    pub fn with_fault<'c>(&self, call: Call<'c>, number: usize, fault: ProgramFault) -> Call<'c> {
        self.with_rbd(call, &format!("if [ $number = {number} ]; then {}; fi", fault.words()))
    }

    /// Makes a call and tells its driver to stop once `ready` says so: it ends soon, and leaves nothing.
    #[track_caller]
    pub fn stop_when(&self, call: &Call, ready: impl Fn() -> bool) {
        let (mut child, input) = call.start();
        child.stdin.take().unwrap().write_all(&input.unwrap()).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !ready() {
            assert!(Instant::now() < until, "the driver begins");
            thread::sleep(Duration::from_millis(20));
        }
        run("kill", ["-TERM", &child.id().to_string()]);
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("stopped by SIGTERM") && said.lines().count() == 1, "{said}");
        self.comes_to_rest();
    }

    /// Waits until nothing is unfinished: what was killed with its driver counts as alive for half a minute.
    #[track_caller]
    pub fn comes_to_rest(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.names().iter().any(|name| name.contains(".ferrostore")) {
            assert!(Instant::now() < until, "{:?}", self.names());
            thread::sleep(Duration::from_millis(200));
        }
        self.is_at_rest();
    }

    /// Kills what drivers have started for their work in this datastore's pool: Ceph's programs, processes with librbd.
    pub fn kill_programs(&self) {
        let conf = self.conf().as_os_str().as_encoded_bytes();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = line.split(|&byte| byte == 0);
            let is_program = words.next().is_some_and(|program| {
                program.ends_with(b"/rbd") || program == b"ferrostore-librbd"
            });
            if is_program && words.any(|word| word == conf) {
                // It may have ended by itself.
                let _ = Command::new("kill").args(["-KILL", id]).stderr(Stdio::null()).status();
            }
        }
    }

    /// How many programs there were in the last of these calls.
    pub fn programs(&self) -> usize {
        let count = fs::read_to_string(self.count()).unwrap_or_default();
        count.trim().parse().unwrap_or(0)
    }

    fn count(&self) -> std::path::PathBuf {
        self.cloud.root().join("rbd.count")
    }
}
