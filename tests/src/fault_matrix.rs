//! The fault matrix: an action is run with every fault at every point, and what is left afterwards is checked.

use crate::contents::fingerprint;
use crate::faults::{Fault, Point, points};
use crate::{Call, Cloud, Contents, TRASH, run};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

/// What a datastore holds, as far as the image goes that an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// What it held before the action.
    Before,
    /// What it shall hold afterwards.
    After,
    /// The image as it shall be afterwards, and each of its snapshots as before: until the next call, which undoes
    /// or ends it.
    Underway,
    /// None of these: something is lost.
    Neither,
}

/// One action to inject faults into, from the same start again and again.
pub struct FaultMatrix<'a> {
    /// What is done where, for the messages of failures.
    pub name: String,
    /// The datastore.
    pub cloud: &'a Cloud,
    /// The call.
    pub call: Call<'a>,
    /// What the datastore holds, by what independent readers read in it.
    pub look: &'a dyn Fn() -> Holds,
    /// Whether the action makes a new image, and a repeat another one.
    pub creates: bool,
    /// Whether a repeat of what has been done is an error.
    pub once: bool,
}

impl FaultMatrix<'_> {
    /// Tries every fault at every point.
    pub fn inject_all(&self) {
        self.without_record();
        let datastore = self.cloud.datastore();
        let start = Contents::of(&datastore);
        assert_eq!((self.look)(), Holds::Before, "{}: at the start", self.name);
        let (points, output) = points(self.cloud, &self.call);
        assert!(output.status.success(), "{}: {output:?}", self.name);
        assert!(points.len() > 5, "{}: the trace works: {points:?}", self.name);
        let trial = Trial { matrix: self, start, seen: RefCell::default() };
        assert_eq!(trial.holds(), Holds::After, "{}: without a fault", self.name);
        let mut faults = 0;
        for point in &points {
            for fault in Fault::ALL {
                trial.start.restore(&datastore);
                trial.inject(point, fault);
                faults += 1;
            }
        }
        println!("{}: {} points, {faults} faults, 0 losses", self.name, points.len());
    }
}

impl FaultMatrix<'_> {
    /// The record of calls is created by the first call only: a later one has not the same system calls.
    fn without_record(&self) {
        self.cloud.datastore_conf("CALL_LOG=no\n");
    }

    /// Cuts the power at every point, and after the reply.
    pub fn cut_power(&self) {
        self.without_record();
        let datastore = self.cloud.datastore();
        let start = Contents::of(&datastore);
        let (points, output) = points(self.cloud, &self.call);
        assert!(output.status.success(), "{}: {output:?}", self.name);
        let trial = Trial { matrix: self, start, seen: RefCell::default() };
        for point in &points {
            trial.begin_durably();
            let at = format!("{}: no power at {}", self.name, point.text);
            let output = self.call.clone().under(point.strace(Fault::Kill)).output();
            assert_eq!(output.status.signal(), Some(9), "{at}: {output:?}");
            self.cloud.mount().cut_power();
            assert_ne!(trial.holds(), Holds::Neither, "{at}: something is lost");
            trial.after_the_cut(&at, &[Holds::Before, Holds::After]);
            if self.once && trial.holds() == Holds::After {
                continue;
            }
            let repeat = self.call.output();
            assert!(repeat.status.success(), "{at}: then a repeat: {repeat:?}");
            assert_eq!(trial.holds(), Holds::After, "{at}: after a repeat");
        }
        trial.begin_durably();
        let output = self.call.output();
        assert!(output.status.success(), "{}: {output:?}", self.name);
        self.cloud.mount().cut_power();
        assert_eq!(trial.holds(), Holds::After, "{}: no power after the reply", self.name);
        trial.after_the_cut(&format!("{}: no power after the reply", self.name), &[Holds::After]);
        trial.start.restore(&datastore);
        println!("{}: {} power cuts, 0 losses", self.name, points.len() + 1);
    }
}

struct Trial<'a, 'r> {
    matrix: &'r FaultMatrix<'a>,
    start: Contents,
    /// What was found, by what the datastore held: so that nothing is read twice.
    seen: RefCell<HashMap<u64, Holds>>,
}

impl Trial<'_, '_> {
    fn holds(&self) -> Holds {
        let (key, _) = self.known();
        if let Some(&holds) = self.seen.borrow().get(&key) {
            return holds;
        }
        let holds = (self.matrix.look)();
        self.seen.borrow_mut().insert(key, holds);
        holds
    }

    /// A number for what is there, whatever the names of new images, and how many of them there are.
    fn known(&self) -> (u64, Vec<String>) {
        let mut contents = Contents::of(&self.matrix.cloud.datastore());
        let before: Vec<&str> = self.start.names().collect();
        let new: Vec<String> =
            contents.names().filter(|name| !before.contains(name)).map(str::to_owned).collect();
        if !self.matrix.creates {
            return (contents.fingerprint(), new);
        }
        let mut bytes: Vec<_> = new
            .iter()
            .map(|name| contents.without(name).map(|bytes| fingerprint(&bytes)))
            .collect();
        bytes.sort();
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&(contents.fingerprint(), bytes), &mut hasher);
        (std::hash::Hasher::finish(&hasher), new)
    }

    fn inject(&self, point: &Point, fault: Fault) {
        let at = format!("{}: {fault:?} at {}", self.matrix.name, point.text);
        let output = self.matrix.call.clone().under(point.strace(fault)).output();
        let said = format!(
            "{at}: {}, {:?}, {:?}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let holds = self.holds();
        assert_ne!(holds, Holds::Neither, "{said}: something is lost");
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => {
                let injected = fault != Fault::Kill || !point.first_thread;
                assert!(injected, "{said}: the fault was not injected");
                assert_eq!(holds, Holds::After, "{said}: a success is one");
            }
            (Some(1), _) => {
                // A person can be told what was done and can't be said.
                let unsaid = self.matrix.once && point.text.starts_with("write(1,");
                let allowed = if unsaid { Holds::After } else { Holds::Before };
                assert_eq!(holds, allowed, "{said}: a failure changes nothing");
                check_failure(&said, point, &output);
            }
            (_, Some(9)) => {}
            _ => panic!("{said}: an odd end"),
        }
        if !self.matrix.cloud.work_directory().exists()
            && Contents::of(&self.matrix.cloud.datastore()) == self.start
        {
            // As if the call had never been made: what follows was tried.
            return;
        }
        let next = self.matrix.cloud.monitor().output();
        assert!(next.status.success(), "{said}: then monitor: {next:?}");
        self.check_nothing_left(&said, &output);
        if output.status.success() {
            return;
        }
        if self.matrix.once && self.holds() == Holds::After {
            return;
        }
        let repeat = self.matrix.call.output();
        assert!(repeat.status.success(), "{said}: then a repeat: {repeat:?}");
        assert_eq!(self.holds(), Holds::After, "{said}: after a repeat");
        self.matrix.cloud.check_trash();
        assert!(!self.matrix.cloud.work_directory().exists(), "{said}: left after a repeat");
    }

    fn begin_durably(&self) {
        let datastore = self.matrix.cloud.datastore();
        self.start.restore(&datastore);
        run("sync", ["-f", datastore.to_str().unwrap()]);
    }

    fn after_the_cut(&self, at: &str, allowed: &[Holds]) {
        let next = self.matrix.cloud.monitor().output();
        assert!(next.status.success(), "{at}: then monitor: {next:?}");
        assert!(!self.matrix.cloud.work_directory().exists(), "{at}: something is left");
        let holds = self.holds();
        assert!(allowed.contains(&holds), "{at}: {holds:?} after the next call");
    }

    /// After the next call on the datastore.
    fn check_nothing_left(&self, said: &str, output: &Output) {
        assert!(!self.matrix.cloud.work_directory().exists(), "{said}: something is left");
        let settled = [Holds::Before, Holds::After].contains(&self.holds());
        assert!(settled, "{said}: {:?} after the next call", self.holds());
        let (_, new) = self.known();
        let reply = String::from_utf8_lossy(&output.stdout);
        self.matrix.cloud.check_trash();
        for name in new.iter().filter(|name| *name != TRASH && !self.matrix.once) {
            assert!(reply.contains(name.as_str()), "{said}: {name} is left, and was not replied");
        }
        if self.matrix.creates && output.status.success() {
            assert_eq!(new.len(), 1, "{said}: the image that was replied is there");
        }
    }
}

fn check_failure(said: &str, point: &Point, output: &Output) {
    assert!(output.stdout.is_empty(), "{said}: a failure replies nothing");
    // Where that very line can't be written, there is none.
    if !point.text.starts_with("write(2,") {
        let text = String::from_utf8_lossy(&output.stderr);
        let log = ["ERROR: ", "WARN: ", "INFO: ", "DEBUG: "];
        let lines = text.lines().filter(|line| !log.iter().any(|level| line.starts_with(level)));
        assert_eq!(lines.count(), 1, "{said}: a failure has one line");
    }
}
