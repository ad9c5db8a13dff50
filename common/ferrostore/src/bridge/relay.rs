//! The front-end's part: it finds a host, hands the action over, and brings the reply back.

use super::connection::{Connection, RemoteCommand, Unconnected};
use super::frame::{self, Tag};
use super::image::receive;
use super::lock_serving::Stopper;
use super::out::Out;
use super::route::{Hosts, ImageFrom, Place, pool, route};
use super::{BridgeError, BridgeMode, Role, Sending, Work, self_executable};
use crate::image_source::ImageSource;
use crate::kinds::{self, DatastoreError, FrontEndLock};
use crate::record;
use disk_image::ImageError;
use disk_image::observer::Moved;
use one_protocol::host_pool::Host;
use one_protocol::message::Message;
use one_protocol::settings::{Carried, Settings};
use runtime::process;
use std::error::Error;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where `STAGING_DIR` is not set.
const STAGING: &str = "/var/tmp";

/// Does what other hosts have to do for an action; what is left to do here.
///
/// # Errors
/// [`BridgeError`], or what is wrong with the image that this machine should send.
pub fn work(
    action: &'static str,
    bridge: BridgeMode,
    message: &Message,
    settings: &Settings,
) -> Result<Work, Box<dyn Error>> {
    let (hosts, image) = match route(bridge, message, settings)? {
        Place::Here => return Ok(Work::Here(None)),
        Place::ReadOnly => return Ok(Work::ReadOnly),
        Place::HereFrom(hosts) => (hosts, None),
        Place::There(hosts, image) => (hosts, Some(image)),
    };
    self_executable::start_digest();
    // An image that may not be registered costs no connection.
    let outgoing = match image {
        Some(ImageFrom::Here(open)) => Some(open(message, &settings.clone().without_storage())?),
        _ => None,
    };
    let bridge = Bridge::new(action, message, settings)?;
    Ok(match (image, outgoing) {
        (None, _) => Work::Here(Some(bridge.fetch(&hosts)?)),
        (Some(ImageFrom::Hosts(sources)), _) => Work::Done(bridge.between(&hosts, &sources)?),
        (_, Some(outgoing)) => Work::Done(bridge.send(&hosts, outgoing)?),
        (_, None) => Work::Done(bridge.act(&hosts)?),
    })
}

struct Bridge<'m> {
    message: &'m Message,
    command: RemoteCommand,
    pool: Vec<Host>,
    /// Chooses the host.
    id: u64,
    xml: Vec<u8>,
    settings: Carried,
    /// The lock of this machine's that guards the storage.
    lock: Option<FrontEndLock>,
}

impl<'m> Bridge<'m> {
    fn new(
        action: &'static str,
        message: &'m Message,
        settings: &Settings,
    ) -> Result<Self, BridgeError> {
        let datastore = message.datastore()?;
        let name = datastore.ds_mad()?;
        let drivers = settings.remote_scripts()?.join("datastore").join(name);
        let staging = match datastore.staging_dir.as_str() {
            "" => STAGING,
            directory => directory,
        };
        let command = RemoteCommand {
            action,
            drivers: plain_path("SCRIPTS_REMOTE_DIR", &drivers.to_string_lossy())?,
            staging: plain_path("DATASTORE/TEMPLATE/STAGING_DIR", staging)?,
        };
        let image = message.image().ok().and_then(|image| image.id);
        Ok(Self {
            message,
            command,
            pool: pool(settings),
            id: image.or(datastore.id).unwrap_or(0),
            xml: message.original(),
            settings: settings.carried(name)?,
            lock: kinds::front_end_lock(message, settings)?,
        })
    }

    /// A connection with one of `hosts`, with one that is among `better` if possible.
    fn connect(&self, hosts: &Hosts, better: Option<&Hosts>) -> Result<Connection, BridgeError> {
        let (usable, mut reasons) = hosts.by_preference(&self.pool, self.id, better);
        for host in usable {
            match Connection::open(&host, &self.command, self.lock.as_ref()) {
                Ok(connection) => {
                    record::note(|facts| {
                        // The first is the one with the storage.
                        if facts.bridge.is_empty() {
                            facts.bridge.clone_from(&host);
                        }
                    });
                    return Ok(connection);
                }
                Err(Unconnected::Unreachable(reason)) => {
                    log::warn!("host {host} is passed over: {reason}");
                    reasons.push(format!("{host}: {reason}"));
                }
                Err(Unconnected::Failed(error)) => return Err(error),
            }
        }
        Err(hosts.none_left(reasons))
    }

    fn call(&self, connection: &mut Connection, role: Role) -> Result<(), BridgeError> {
        connection.call(role, &self.xml, &self.settings);
        match &self.lock {
            Some(lock) if role == Role::Take => connection.acquire(lock),
            _ => Ok(()),
        }
    }

    /// All of the action there.
    fn act(&self, hosts: &Hosts) -> Result<Vec<u8>, BridgeError> {
        let mut there = self.connect(hosts, None)?;
        stop_through([&there])?;
        self.call(&mut there, Role::Act)?;
        there.reply()
    }

    /// The action there, with an image from here.
    fn send(&self, hosts: &Hosts, image: Box<dyn Sending>) -> Result<Vec<u8>, BridgeError> {
        let mut there = self.connect(hosts, None)?;
        stop_through([&there])?;
        self.call(&mut there, Role::Take)?;
        match image.send(&mut there.out()) {
            Ok(()) => there.reply(),
            // It doesn't listen any more, and says why.
            Err(BridgeError::Image(ImageError::Write { .. })) => Err(there.failure()),
            Err(BridgeError::Image(error)) => {
                there.part();
                let error = DatastoreError::from(error);
                Err(error.about_path(self.message.image()?).into())
            }
            Err(error) => {
                there.part();
                Err(error)
            }
        }
    }

    /// The action there, with an image of another host.
    fn between(&self, targets: &Hosts, sources: &Hosts) -> Result<Vec<u8>, BridgeError> {
        let mut target = self.connect(targets, Some(sources))?;
        if sources.has(target.host()) {
            stop_through([&target])?;
            self.call(&mut target, Role::Act)?;
            return target.reply();
        }
        let mut source = self.connect(sources, None)?;
        stop_through([&target, &source])?;
        let source_stopper = source.stopper().map_err(BridgeError::System)?;
        let target_stopper = target.stopper().map_err(BridgeError::System)?;
        self.call(&mut source, Role::Give)?;
        // Only then, since both may need the same lock.
        source.listen();
        self.call(&mut target, Role::Take)?;
        let out = target.plain_writer();
        let source_failed = AtomicBool::new(false);
        let passed = std::thread::scope(|scope| {
            let pump = std::thread::Builder::new().spawn_scoped(scope, || {
                pass_on(source, out).inspect_err(|_| {
                    source_failed.store(true, Ordering::SeqCst);
                    target_stopper.stop();
                })
            });
            let pump = pump.map_err(BridgeError::System)?;
            // The one must get its locks whatever the other waits for.
            target.listen();
            if source_failed.load(Ordering::SeqCst) {
                return pump.join().unwrap_or(Ok(()));
            }
            source_stopper.stop();
            Ok(())
        });
        if passed.is_err() {
            target.part();
        }
        passed.and_then(|()| target.reply())
    }

    /// The image that one of `hosts` has.
    fn fetch(&self, hosts: &Hosts) -> Result<ImageSource, BridgeError> {
        let mut there = self.connect(hosts, None)?;
        self.call(&mut there, Role::Give)?;
        let Ok(Some((Tag::Image, first))) = there.next() else { return Err(there.failure()) };
        let Ok((source, mut intake)) = receive(&first) else { return Err(there.failure()) };
        let pump = move || {
            loop {
                let error = match there.next() {
                    Ok(Some((tag, payload))) => match intake.take(tag, payload) {
                        Ok(false) => continue,
                        Ok(true) => {
                            there.part();
                            return;
                        }
                        Err(error) => error,
                    },
                    _ => io::Error::other(there.failure().to_string()),
                };
                return intake.fail(error);
            }
        };
        std::thread::Builder::new().spawn(pump).map_err(BridgeError::System)?;
        Ok(source)
    }
}

/// Hands what `source` sends on to a target. One that takes no more says why itself.
fn pass_on(mut source: Connection, mut out: Out) -> Result<(), BridgeError> {
    loop {
        let Ok(Some((tag, payload))) = source.next() else { return Err(source.failure()) };
        if tag == Tag::Data {
            record::moved(Moved::Read, payload.len() as u64);
        }
        let mut sent = frame::write(&mut out, tag, &payload);
        if tag == Tag::End {
            sent = sent.and_then(|()| out.flush());
        }
        if tag == Tag::End || sent.is_err() {
            source.part();
            return Ok(());
        }
    }
}

/// Has a signal end what is sent to the other sides, instead of this process at once: they clean up, or
/// have done their work already, and say which.
fn stop_through<'c>(
    connections: impl IntoIterator<Item = &'c Connection>,
) -> Result<(), BridgeError> {
    let stoppers: Vec<_> = connections
        .into_iter()
        .map(Connection::stopper)
        .collect::<io::Result<_>>()
        .map_err(BridgeError::System)?;
    process::delegate(move || {
        stoppers.iter().for_each(Stopper::stop);
        stoppers.iter().for_each(Stopper::wait);
    });
    Ok(())
}

/// A path that can be one line for a shell's `read`.
fn plain_path(attribute: &'static str, path: &str) -> Result<String, BridgeError> {
    // Bytes that are no UTF-8 are carried as characters of the last private-use plane.
    let odd = |c: char| c.is_control() || c >= '\u{F0000}';
    if !path.starts_with('/') || path.contains(odd) {
        return Err(BridgeError::Value {
            attribute,
            value: path.to_owned(),
            rule: "is not a directory for drivers: it must be an absolute path without control characters",
        });
    }
    Ok(path.to_owned())
}
