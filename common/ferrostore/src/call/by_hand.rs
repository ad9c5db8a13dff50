//! A program that an administrator runs by hand on a datastore: its command line, and how it ends.

use crate::fsck::Severity;
use crate::kinds::ceph;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use one_protocol::input::MessageSource;
use one_protocol::message;
use one_protocol::message::DatastoreType;
use one_protocol::settings::Settings;
use one_protocol::{arguments, logger};
use runtime::command::cluster::Cluster;
use runtime::command::rbd::Pool;
use runtime::text;
use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long one operation on an object of a pool may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// The datastore's directory; of a pool, its name, where SOURCE has that.
    pub directory: PathBuf,
    /// The pool that holds the datastore, where it is none of files.
    pub pool: Option<Pool>,
    /// The datastore's number, where the message, the command line or the name of its directory tells.
    pub datastore: Option<u64>,
    /// A list of the images that oned knows; `-`: standard input.
    pub images: Option<PathBuf>,
    /// Whether a program will read the report.
    pub json: bool,
}

/// What a check comes to: the worst problem, if there is any.
pub type Finding = Result<Option<Severity>, Box<dyn Error>>;

/// Why a datastore can't be found.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("{0}")]
    Arguments(String),
    #[error(
        "DATASTORE/DS_MAD {} is of the kind {kind}: only file datastores (fs) and pools (ceph) can be checked",
        text::shown(name)
    )]
    Kind { name: String, kind: String },
    #[error(
        "DATASTORE/TEMPLATE/BRIDGE_LIST {} holds the datastore: run this there, on its directory",
        text::shown(hosts)
    )]
    Elsewhere { hosts: String },
    #[error("--{option} {} is not valid: it must be {rule}", text::shown(value))]
    Option { option: &'static str, value: String, rule: &'static str },
    #[error("DATASTORE/TYPE is {0}: only datastores of images or files can be checked")]
    Type(&'static str),
}

const ABOUT: &str =
    "Check a file datastore: every image, its snapshots, what was left over. Changes nothing.";

const AFTER: &str = "\
Each entry gets a line: format, size of the disk, space with all snapshots, layout of the snapshots.
Problems follow, each on a line of its own. The last line is the verdict: `n images, n problems`.

Exit code: 0  no problem
           1  nothing could be checked; one line on standard error says why
           2  warnings only: left-overs, orphans, unknown, stale digests
           3  an image or a snapshot is damaged or missing
";

/// The command line of the check, called as `name`: `fsck` or `ferrostore fsck`.
#[must_use]
pub fn command(name: &'static str) -> Command {
    Command::new("fsck")
        .version(concat!("(ferrostore) ", env!("CARGO_PKG_VERSION")))
        .about(ABOUT)
        .after_help(format!(
            "{AFTER}\nExamples:\n  {name} /var/lib/one/datastores/1\n  \
             oneimage list -x | {name} --images - /var/lib/one/datastores/1\n  \
             {name} --json --message tests/canned/monitor.xml\n  \
             oneimage list -x | {name} --pool one --images - --datastore 104"
        ))
        .override_usage(format!(
            "{name} [OPTIONS] <DIRECTORY>\n       {name} [OPTIONS] --message <FILE>\n       \
             {name} [OPTIONS] --pool <POOL>\n       {name} [OPTIONS] < MESSAGE"
        ))
        .arg(
            Arg::new("directory")
                .value_name("DIRECTORY")
                .help("Directory of the datastore (its BASE_PATH)")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("message"),
        )
        .arg(
            Arg::new("pool")
                .long("pool")
                .value_name("POOL")
                .help("Check a pool of a Ceph cluster instead of a directory")
                .conflicts_with_all(["directory", "message"]),
        )
        .arg(file("conf", "With --pool: the cluster's configuration [default: /etc/ceph/ceph.conf]").requires("pool"))
        .arg(
            Arg::new("user")
                .long("user")
                .value_name("NAME")
                .help("With --pool: the cluster's user, without 'client.' [default: admin]")
                .requires("pool"),
        )
        .arg(file("key", "With --pool: the file that holds the user's key").requires("pool"))
        .arg(file("message", "Take the datastore from a message, as XML or base64 ('-': standard input)"))
        .arg(file(
            "images",
            "What oned knows: the output of `oneimage list -x`, or a SOURCE or file name a line ('-': standard input)",
        ))
        .arg(
            Arg::new("datastore")
                .long("datastore")
                .value_name("ID")
                .help("Number of the datastore in that list [default: as the message or the directory's name says]")
                .value_parser(value_parser!(u64)),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .help("Print one JSON document")
                .action(ArgAction::SetTrue),
        )
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FILE").help(help).value_parser(value_parser!(PathBuf))
}

/// Runs the program: `body` does the work and says how bad things are.
#[must_use]
pub fn run(body: fn(&Request) -> Finding) -> ExitCode {
    logger::install();
    let outcome = match command("fsck").try_get_matches() {
        Ok(matches) => request(&matches).and_then(|request| body(&request)),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(RequestError::Arguments(arguments::why(&error)).into()),
    };
    match outcome {
        Ok(worst) => exit_code(worst),
        Err(error) => {
            eprintln!("fsck: {}", text::readable_line(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a check whose worst problem this is.
#[must_use]
pub fn exit_code(worst: Option<Severity>) -> ExitCode {
    match worst {
        None => ExitCode::SUCCESS,
        Some(Severity::Warning) => ExitCode::from(2),
        Some(Severity::Damage) => ExitCode::from(3),
    }
}

/// What a command line asks for.
///
/// # Errors
/// Where it names no datastore that can be checked.
pub fn request(matches: &ArgMatches) -> Result<Request, Box<dyn Error>> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let images = path("images");
    let (directory, told, pool) = match (path("directory"), pool(matches)?) {
        (_, Some(pool)) => (PathBuf::from(&pool.name), None, Some(pool)),
        (Some(directory), None) => (directory, None, None),
        (None, None) => of_message(path("message"), images.as_deref())?,
    };
    let number = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
    Ok(Request {
        datastore: matches.get_one("datastore").copied().or(told).or(number),
        directory,
        pool,
        images,
        json: matches.get_flag("json"),
    })
}

/// The pool that a command line names.
fn pool(matches: &ArgMatches) -> Result<Option<Pool>, RequestError> {
    let Some(name) = matches.get_one::<String>("pool") else { return Ok(None) };
    let invalid =
        |option, value: &str, rule| RequestError::Option { option, value: value.to_owned(), rule };
    if !ceph::is_pool(name) {
        return Err(invalid("pool", name, "a pool or pool/namespace"));
    }
    let user = matches.get_one::<String>("user").cloned();
    if let Some(user) = user.as_deref().filter(|user| !ceph::is_user(user)) {
        return Err(invalid("user", user, "a user's name without \"client.\""));
    }
    let file = |name: &str| -> Option<PathBuf> {
        let path = matches.get_one::<PathBuf>(name)?;
        // Programs of Ceph run in another directory.
        Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
    };
    let (key, conf) = (file("key"), file("conf"));
    let cluster = Cluster { user, key, conf, operation_timeout: TIMEOUT, ..Cluster::default() };
    Ok(Some(Pool { cluster, name: name.clone(), data_pool: None }))
}

/// Directory, number and perhaps pool of the datastore that the message in `file`, or on standard input, is about.
#[allow(clippy::type_complexity)]
fn of_message(
    file: Option<PathBuf>,
    images: Option<&Path>,
) -> Result<(PathBuf, Option<u64>, Option<Pool>), Box<dyn Error>> {
    let from = match file {
        Some(file) if file.as_os_str() != "-" => MessageSource::File(file),
        _ if images.is_some_and(|images| images.as_os_str() == "-") => {
            let why = "--images - and the message can't both come on standard input: give the directory, or one of them as a file";
            return Err(RequestError::Arguments(why.to_owned()).into());
        }
        None if io::stdin().is_terminal() => {
            let why = "the datastore's directory is missing (--help shows the usage)";
            return Err(RequestError::Arguments(why.to_owned()).into());
        }
        _ => MessageSource::StandardInput,
    };
    let message = message::parse(from.read()?)?;
    let datastore = message.datastore()?;
    let name = datastore.ds_mad()?.to_owned();
    let settings = Settings::from_environment();
    let kind = settings.kind_of(&name)?.unwrap_or_else(|| name.clone());
    if kind != "fs" && kind != "ceph" {
        return Err(RequestError::Kind { name, kind }.into());
    }
    if !datastore.bridge_list.is_empty() {
        return Err(RequestError::Elsewhere { hosts: datastore.bridge_list.join(" ") }.into());
    }
    match datastore.datastore_type {
        DatastoreType::System => return Err(RequestError::Type("1 (system)").into()),
        DatastoreType::Backup => return Err(RequestError::Type("3 (backup)").into()),
        DatastoreType::Image | DatastoreType::File => {}
    }
    if kind == "ceph" {
        let pool = ceph::pool_of(&message, &settings)?;
        return Ok((PathBuf::from(&pool.name), datastore.id, Some(pool)));
    }
    Ok((text::path(datastore.base_path()?), datastore.id, None))
}
