//! Where the bytes of an image are: a file on this machine, or elsewhere, then fetched as one stream.

use super::archive::Located;
use super::bytes::stream_head;
use super::remote::needs_pieces;
use super::{Intake, path_error};
use crate::image_source::{Bytes, ImageSource, Payload, PendingDigests};
use crate::kinds::DatastoreError;
use crate::policy;
use crate::progress::Source;
use crate::transfer::archive::{Choice, Kind, Survey};
use crate::transfer::digest::Digests;
use crate::transfer::http::{Url, WebFile};
use crate::transfer::limit::Limited;
use crate::transfer::location::{Location, without_password};
use one_protocol::message::Image;
use runtime::command::{self, Output, Part};
use runtime::text;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A zip archive is looked through for no longer than this.
const TIME_TO_LOOK: Duration = Duration::from_secs(300);

impl Intake {
    /// Opens what `IMAGE/PATH` names, for `cp`.
    pub(in crate::kinds) fn open(&self, image: &Image) -> Result<ImageSource, DatastoreError> {
        let mut digests = Digests::new(&image.digests)?;
        let Located { location, member } = self.locate(image)?;
        let (stream, length) = match &location {
            Location::Local(path) => {
                let file = self.admit_path(image, path, &[policy::Kind::File])?.file;
                if !self.expect(image, &location, &mut digests)? {
                    let verification = digests.verify_file(&file)?;
                    return Ok(ImageSource {
                        member,
                        digests: PendingDigests::File(verification),
                        ..ImageSource::new(Payload::Unvalidated, Bytes::File(file))
                    });
                }
                // Its user could change it between two readers: what is verified must be what is stored.
                let length = file.metadata().ok().map(|metadata| metadata.len());
                (Box::new(Source::new(file, length)) as Box<dyn Read + Send>, length)
            }
            remote => {
                self.expect(image, remote, &mut digests)?;
                let (mut stream, length) = self.fetch(image, remote)?;
                if let Location::Http(url) = remote
                    && digests.is_empty()
                {
                    let head = stream_head(&mut stream)?;
                    if let Some(length) = length
                        && self.is_zip(image, &head)?
                        && let Some(found) =
                            self.member_on_web(image, url, length, member.as_ref())?
                    {
                        return Ok(found);
                    }
                    stream = Box::new(io::Cursor::new(head).chain(stream));
                }
                (stream, length)
            }
        };
        let (stream, result) = digests.verify_stream(stream);
        Ok(ImageSource {
            member,
            length,
            digests: PendingDigests::Stream(result),
            ..ImageSource::new(Payload::Unvalidated, Bytes::Stream(Box::new(stream)))
        })
    }

    /// Whether certificates of https servers must be trusted.
    pub(super) fn verifies_tls(&self) -> Result<bool, DatastoreError> {
        match self.attributes.tls_verify {
            Some(verify) => Ok(verify),
            None => Ok(self.settings.tls_verify(&self.attributes.ds_mad)?),
        }
    }

    /// Whether an image that begins with `head` is a zip archive that is looked into. One that could be a disk as well
    /// is refused later.
    fn is_zip(&self, image: &Image, head: &[u8]) -> Result<bool, DatastoreError> {
        Ok(self.policy(image.image_type)?.archive(head).is_ok_and(|kind| kind == Some(Kind::Zip)))
    }

    /// The member of a zip archive of `length` bytes on a web server, of which no more than that is fetched; `None` where
    /// the server has no Range requests.
    fn member_on_web(
        &self,
        image: &Image,
        url: &Url,
        length: u64,
        choice: Option<&Choice>,
    ) -> Result<Option<ImageSource>, DatastoreError> {
        let file = self.web_file(image, url)?;
        let pieces = file.clone().pieces(Instant::now() + TIME_TO_LOOK);
        let read_at = |offset, count| pieces.read_at(offset, count);
        let survey = Survey::of(Kind::Zip, &read_at, length);
        let found = survey.and_then(|survey| {
            let found = survey.find(choice)?;
            survey.warn_of_missing();
            Ok(found)
        });
        let found = match found.map_err(DatastoreError::from) {
            Err(error) if needs_pieces(&error) => return Ok(None),
            Ok(_) if !pieces.are_ranges() => return Ok(None),
            found => found.map_err(|error| error.about_path(image))?,
        };
        let rate = self.attributes.limit_transfer_bw;
        let open = move |offset| -> io::Result<Box<dyn Read + Send>> {
            Ok(at_rate(Box::new(file.clone().download_from(offset)?), rate))
        };
        let length = found.size();
        let stream = Box::new(Source::new(found.open(Box::new(open)), length));
        let source = ImageSource::new(Payload::Member, Bytes::Stream(stream));
        Ok(Some(ImageSource { length, ..source }))
    }

    pub(super) fn web_file(&self, image: &Image, url: &Url) -> Result<WebFile, DatastoreError> {
        let verify = self.verifies_tls()?;
        if image.path().is_ok_and(|path| path.trim() != path) {
            log::warn!("IMAGE/PATH has blanks around its URL, which are left out");
        }
        Ok(WebFile::new(url, verify))
    }

    /// The bytes of a remote image, at the rate that the datastore allows, and how many there are where that is known.
    pub(super) fn fetch(
        &self,
        image: &Image,
        location: &Location,
    ) -> Result<(Box<dyn Read + Send>, Option<u64>), DatastoreError> {
        let mut length = None;
        let stream: Box<dyn Read + Send> = match location {
            Location::Http(url) => {
                let download = self
                    .web_file(image, url)?
                    .download()
                    .map_err(|error| path_error(image, error))?;
                length = download.length();
                Box::new(download)
            }
            Location::Ssh { host, path } => Box::new(command::ssh_file(host, path, Part::Whole)?),
            Location::Helper { scheme } => Box::new(self.helper(image, scheme)?),
            Location::Unknown(reason) => return Err(path_error(image, reason)),
            Location::Local(_) => return Err(path_error(image, "is on this machine")),
        };
        let stream = Box::new(Source::new(stream, length));
        Ok((self.at_its_rate(stream), length))
    }

    /// `stream`, no faster than the datastore allows.
    pub(super) fn at_its_rate(&self, stream: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        at_rate(stream, self.attributes.limit_transfer_bw)
    }

    pub(super) fn helper(&self, image: &Image, scheme: &str) -> Result<Output, DatastoreError> {
        let downloader = self.settings.downloader();
        if !downloader.is_file() {
            return Err(path_error(
                image,
                format_args!(
                    "can't be fetched: the scheme {scheme} needs OpenNebula's {}, which is not installed",
                    downloader.display()
                ),
            ));
        }
        let path = text::path(image.path()?);
        Ok(command::downloader(
            &downloader,
            path.as_os_str(),
            &without_password(image.path()?),
            &self.message,
        )?)
    }
}

fn at_rate(stream: Box<dyn Read + Send>, rate: Option<u64>) -> Box<dyn Read + Send> {
    match rate {
        Some(rate) => Box::new(Limited::new(stream, rate)),
        None => stream,
    }
}
