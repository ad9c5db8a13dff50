//! Where the bytes of an image are: a file on this machine, or elsewhere, then fetched as one stream.

use super::archive::Located;
use super::{Intake, path_error};
use crate::image_source::{Bytes, ImageSource, Payload, PendingDigests};
use crate::kinds::DatastoreError;
use crate::policy::Kind;
use crate::progress::Source;
use crate::transfer::digest::Digests;
use crate::transfer::http::{Url, WebFile};
use crate::transfer::limit::Limited;
use crate::transfer::location::{Location, without_password};
use one_protocol::message::Image;
use runtime::command::{self, Output, Part};
use runtime::text;
use std::io::Read;

impl Intake {
    /// Opens what `IMAGE/PATH` names, for `cp`.
    pub(in crate::kinds) fn open(&self, image: &Image) -> Result<ImageSource, DatastoreError> {
        let mut digests = Digests::new(&image.digests)?;
        let Located { location, member } = self.locate(image)?;
        let (stream, length) = match &location {
            Location::Local(path) => {
                let file = self.admit_path(image, path, &[Kind::File])?.file;
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
                self.fetch(image, remote)?
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
        match self.attributes.limit_transfer_bw {
            Some(rate) => Box::new(Limited::new(stream, rate)),
            None => stream,
        }
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
