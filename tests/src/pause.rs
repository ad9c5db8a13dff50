//! A driver that is stopped in the middle of its work: what happens meanwhile happens neither before nor after.

use crate::{Call, Outcome, run};
use std::fs;
use std::thread;
use std::time::Duration;

impl Call<'_> {
    /// Makes the call, stops the driver once it has made its first system call of this name, does `meanwhile`, and lets
    /// the driver go on.
    pub fn paused_at(self, system_call: &str, meanwhile: impl FnOnce()) -> Outcome {
        let log = self.cloud().root().join("pause");
        let _ = fs::remove_file(&log);
        let trace = format!("trace={system_call}");
        let inject = format!("inject={system_call}:signal=STOP:when=1");
        let log_name = log.to_str().unwrap();
        let call = self.under(["strace", "-f", "-qq", "-o", log_name, "-e", &trace, "-e", &inject]);
        thread::scope(|scope| {
            let driver = scope.spawn(|| call.run());
            let stopped = loop {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let mut lines = text.lines().filter_map(|line| line.split_once(' '));
                if let Some((process, _)) =
                    lines.find(|(_, what)| what.contains("stopped by SIGSTOP"))
                {
                    break process.to_owned();
                }
                assert!(!driver.is_finished(), "the driver never calls {system_call}: {text}");
                thread::sleep(Duration::from_millis(2));
            };
            meanwhile();
            run("kill", ["-s", "CONT", &stopped]);
            driver.join().unwrap()
        })
    }
}
