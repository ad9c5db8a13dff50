//! One call of a driver, made the way oned or a person makes it.

use crate::{Cloud, Listing, Message, Outcome, executable, run, stripped};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How the message reaches the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// The id as argument, base64 on standard input, one line with a final newline.
    New,
    /// As `New`, without the final newline.
    NewWithoutNewline,
    /// As `New`, with a line break after every 60 characters.
    NewWrapped,
    /// The id as argument, XML on standard input.
    NewXml,
    /// Base64 as the first argument and the id as the second; standard input stays open and mute.
    Old,
    /// As `Old`, with a line break after every 60 characters.
    OldWrapped,
    /// XML as the first argument and the id as the second.
    OldXml,
    /// No argument, base64 on standard input.
    Stdin,
    /// No argument, XML on standard input.
    StdinXml,
    /// `--message FILE`, with base64 in the file.
    File,
    /// `--message FILE`, with XML in the file.
    FileXml,
    /// `--message -`, with XML on standard input.
    FileDashXml,
}

impl Convention {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::New,
        Self::NewWithoutNewline,
        Self::NewWrapped,
        Self::NewXml,
        Self::Old,
        Self::OldWrapped,
        Self::OldXml,
        Self::Stdin,
        Self::StdinXml,
        Self::File,
        Self::FileXml,
        Self::FileDashXml,
    ];
}

/// A driver that takes longer than this hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A call to be made: built by [`Cloud`], refined here, made by [`Call::run`].
#[derive(Clone, Debug)]
pub struct Call<'cloud> {
    cloud: &'cloud Cloud,
    action: String,
    id: String,
    message: Message,
    convention: Convention,
    arguments: Option<Vec<OsString>>,
    input: Option<Vec<u8>>,
    environment: Vec<(String, OsString)>,
    user: Option<u32>,
    member: Option<String>,
    wrapper: Vec<OsString>,
    listing: bool,
    /// The datastore's directory, where it is.
    directory: PathBuf,
    stripped: bool,
}

impl<'cloud> Call<'cloud> {
    pub(crate) fn new(cloud: &'cloud Cloud, action: &str, message: Message) -> Self {
        Self {
            cloud,
            action: action.to_owned(),
            id: "7".to_owned(),
            message,
            convention: Convention::New,
            arguments: None,
            input: None,
            environment: Vec::new(),
            user: None,
            member: None,
            wrapper: Vec::new(),
            listing: true,
            directory: cloud.datastore(),
            stripped: false,
        }
    }

    /// The front-end that makes it.
    pub fn cloud(&self) -> &'cloud Cloud {
        self.cloud
    }

    /// Sets `IMAGE/PATH`.
    pub fn path(self, path: impl AsRef<Path>) -> Self {
        self.set("IMAGE/PATH", path.as_ref().as_os_str().as_encoded_bytes())
    }

    /// Sets `IMAGE/SOURCE`.
    pub fn source(self, path: impl AsRef<Path>) -> Self {
        self.set("IMAGE/SOURCE", path.as_ref().as_os_str().as_encoded_bytes())
    }

    /// Sets `DATASTORE/TEMPLATE/DRIVER`.
    pub fn driver(self, format: &str) -> Self {
        self.set("DATASTORE/TEMPLATE/DRIVER", format)
    }

    /// Makes the datastore one for kernels and other plain files.
    pub fn files_datastore(self) -> Self {
        self.set_escaped("DATASTORE/TYPE", "2").set("DATASTORE/TEMPLATE/TYPE", "FILE_DS")
    }

    /// Makes the image a CD-ROM.
    pub fn cdrom(self) -> Self {
        self.set_escaped("IMAGE/TYPE", "1")
    }

    /// Sets an attribute as CDATA; `path` is as in `IMAGE/TEMPLATE/MD5`.
    pub fn set(self, path: &str, value: impl AsRef<[u8]>) -> Self {
        self.edit(|message| message.set(path, value))
    }

    /// Sets an attribute with entities for the special characters.
    pub fn set_escaped(self, path: &str, value: impl AsRef<[u8]>) -> Self {
        self.edit(|message| message.set_escaped(path, value))
    }

    /// Sets the inside of an element to XML as it is.
    pub fn set_xml(self, path: &str, xml: impl AsRef<[u8]>) -> Self {
        self.edit(|message| message.set_xml(path, xml))
    }

    /// Removes an element.
    pub fn without(self, path: &str) -> Self {
        self.edit(|message| message.without(path))
    }

    /// Changes the message in any other way.
    pub fn edit(mut self, change: impl FnOnce(Message) -> Message) -> Self {
        self.message = change(self.message);
        self
    }

    /// The message as it stands.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Calls in another convention.
    pub fn by(mut self, convention: Convention) -> Self {
        self.convention = convention;
        self
    }

    /// Calls with exactly these arguments.
    pub fn arguments<S: Into<OsString>>(mut self, list: impl IntoIterator<Item = S>) -> Self {
        self.arguments = Some(list.into_iter().map(Into::into).collect());
        self
    }

    /// Sends exactly these bytes on standard input.
    pub fn input(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.input = Some(bytes.as_ref().to_vec());
        self
    }

    /// Sends the message on standard input in base64, but as if it were `xml`.
    pub fn input_encoded(self, xml: impl AsRef<[u8]>) -> Self {
        let encoded = STANDARD.encode(xml);
        self.input(encoded)
    }

    /// Adds a variable to the environment.
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Runs the driver as another user than root, who may then be refused things.
    pub fn as_user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// Runs the driver as another user, by name, with all the groups of that user.
    pub fn as_member(mut self, user: &str) -> Self {
        self.member = Some(user.to_owned());
        self
    }

    /// Runs the driver under another program (`strace`, `prlimit`): its name and arguments.
    pub fn under<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Doesn't look at the datastore before and after the call, for one that can't be looked at.
    pub fn without_listing(mut self) -> Self {
        self.listing = false;
        self
    }

    /// Calls a driver that is as small as that of a release.
    pub fn as_released(mut self) -> Self {
        self.stripped = true;
        self
    }

    /// Looks for what the driver does in another directory than the front-end's datastore.
    pub fn looking_at(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    fn listing(&self) -> Listing {
        if self.listing { Listing::of(&self.directory) } else { Listing::default() }
    }

    /// The command that makes the call, and what goes to its standard input.
    pub fn command(&self) -> (Command, Vec<u8>) {
        let (command, input) = self.prepare();
        (command, input.unwrap_or_default())
    }

    /// Makes the call and waits for its end, without a look at the datastore before and after: for tests that
    /// make thousands of calls and look for themselves.
    pub fn output(&self) -> Output {
        let (mut child, input) = self.start();
        if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
            // It may have been killed meanwhile.
            let _ = pipe.write_all(&bytes);
        }
        child.wait_with_output().expect("the child can be waited for")
    }

    /// Starts the driver; what it is to be sent.
    pub fn start(&self) -> (Child, Option<Vec<u8>>) {
        let (mut command, input) = self.prepare();
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        (child, input)
    }

    /// Makes the call and waits for its end.
    pub fn run(self) -> Outcome {
        let before = self.listing();
        let (mut child, input) = self.start();
        let mut stdin = child.stdin.take();
        // Without input the pipe stays open to the end: a driver that reads it would hang.
        let writer = input.and_then(|bytes| {
            let mut pipe = stdin.take()?;
            Some(thread::spawn(move || pipe.write_all(&bytes).is_ok()))
        });
        let stdout = collect(child.stdout.take().expect("a pipe"));
        let stderr = collect(child.stderr.take().expect("a pipe"));
        let status = self.wait(&mut child);
        drop(stdin);
        Outcome {
            action: self.action.clone(),
            base_path: self.cloud.base_path(),
            directory: self.directory.clone(),
            status,
            stdout: stdout.join().expect("the reader ends"),
            stderr: stderr.join().expect("the reader ends"),
            input_taken: writer.is_none_or(|writer| writer.join().expect("the writer ends")),
            before,
            after: self.listing(),
        }
    }

    fn prepare(&self) -> (Command, Option<Vec<u8>>) {
        let driver = match self.user {
            None if self.member.is_some() => self.copy_for_anyone(),
            None if self.stripped => stripped(&self.action),
            None => executable(&self.action),
            Some(_) => self.copy_for_anyone(),
        };
        let mut command = match self.wrapper.split_first() {
            None => match &self.member {
                None => Command::new(driver),
                Some(user) => {
                    let mut command = Command::new("setpriv");
                    let ids = ["--reuid", "--regid"].map(|id| format!("{id}={user}"));
                    command.args(ids).arg("--init-groups").arg(driver);
                    command
                }
            },
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(driver);
                command
            }
        };
        let (arguments, input) = self.address();
        command
            .args(self.arguments.clone().unwrap_or(arguments))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.cloud.home())
            .env("ONE_LOCATION", self.cloud.one_location())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.cloud.one_location().join("var"));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        (command, self.input.clone().or(input))
    }

    /// The driver where another user can reach it, whatever folder it was built in.
    fn copy_for_anyone(&self) -> PathBuf {
        let copy = self.cloud.root().join(&self.action);
        // Not by this process: a child of another thread could hold the copy open for writing
        // while this one is to be executed.
        run("cp", [executable(&self.action), copy.clone()]);
        copy
    }

    /// The arguments and the standard input of the convention.
    fn address(&self) -> (Vec<OsString>, Option<Vec<u8>>) {
        let id = OsString::from(&self.id);
        let xml = self.message.xml();
        let line = self.message.base64();
        let file = |content: &[u8]| {
            let file = self.cloud.root().join("message");
            fs::write(&file, content).expect("the message can be written");
            (vec!["--message".into(), file.into()], None)
        };
        match self.convention {
            Convention::New => (vec![id], Some(format!("{line}\n").into_bytes())),
            Convention::NewWithoutNewline => (vec![id], Some(line.into_bytes())),
            Convention::NewWrapped => (vec![id], Some(wrapped(&line).into_bytes())),
            Convention::NewXml => (vec![id], Some(xml)),
            Convention::Old => (vec![line.into(), id], None),
            Convention::OldWrapped => (vec![wrapped(&line).into(), id], None),
            Convention::OldXml => {
                let xml = String::from_utf8(xml).expect("UTF-8");
                (vec![xml.into(), id], None)
            }
            Convention::Stdin => (vec![], Some(line.into_bytes())),
            Convention::StdinXml => (vec![], Some(xml)),
            Convention::File => file(line.as_bytes()),
            Convention::FileXml => file(&xml),
            Convention::FileDashXml => (vec!["--message".into(), "-".into()], Some(xml)),
        }
    }

    fn wait(&self, child: &mut Child) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return status;
            }
            if start.elapsed() > TIMEOUT {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} still runs after {TIMEOUT:?}", self.action);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn wrapped(line: &str) -> String {
    let mut text = String::new();
    for (index, character) in line.chars().enumerate() {
        if index > 0 && index % 60 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text + "\n"
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("the pipe can be read");
        bytes
    })
}
