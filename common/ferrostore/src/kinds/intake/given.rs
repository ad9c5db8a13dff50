//! Images that are opened on one machine and taken in on another.

use super::bytes::stream_head;
use super::{Destination, Import, Intake, Origin, Policy, reading};
use crate::kinds::DatastoreError;
use crate::transfer::ReadAhead;
use crate::transfer::digest::Digests;
use crate::transfer::given::{Bytes, Given, Nature, Outgoing, Pending};
use disk_image::Format;
use disk_image::admission::admit_whole;
use disk_image::probe::Content;
use disk_image::raw::RawDisk;
use one_protocol::message::Image;
use std::io::{self, Read as _};

impl Intake {
    /// What `IMAGE/PATH` names, for another machine.
    pub(in crate::kinds) fn outgoing(&self, image: &Image) -> Result<Outgoing, DatastoreError> {
        let digests = Digests::new(&image.digests)?;
        let (bytes, digests) = match self.open(image)? {
            Origin::File(file) => {
                let verification = digests.verify_file(&file)?;
                let disk = RawDisk::open(file).map_err(reading)?;
                (Bytes::Disk(Box::new(disk)), Pending::File(verification))
            }
            Origin::Stream { stream, .. } => {
                let (stream, result) = digests.verify_stream(stream);
                let stream = ReadAhead::of(stream).map_err(reading)?;
                (Bytes::Stream(Box::new(stream)), Pending::Stream(result))
            }
        };
        Ok(Outgoing { nature: Nature::Unjudged, bytes, digests })
    }

    /// Writes what another machine has opened into `destination`; in which format that is. Digests are
    /// checked there.
    pub(in crate::kinds) fn take_given(
        &self,
        image: &Image,
        given: Given,
        policy: Policy,
        destination: &mut dyn Destination,
    ) -> Result<Format, DatastoreError> {
        let none = Digests::new(&[])?;
        let origin = Origin::Stream { stream: given.stream, length: given.length };
        self.take(image, origin, none, policy, destination)
    }
}

impl Import<'_> {
    /// Writes an image of another datastore, as it comes from another machine.
    pub(in crate::kinds) fn given(&mut self, given: Given) -> Result<Format, DatastoreError> {
        self.length = given.length;
        let mut stream = ReadAhead::of(given.stream).map_err(reading)?;
        let format = match given.nature {
            Nature::File(format) => format,
            Nature::Disk(wanted) => return self.write_stream(&mut stream, wanted, None),
            // Nobody sends that for a clone; whatever it is, it is judged.
            Nature::Unjudged => return self.stream(Box::new(stream)),
        };
        let head = stream_head(&mut stream)?;
        let luks = format == Format::Raw && matches!(Content::of(&head), Content::Luks);
        let wanted = if luks { Format::Raw } else { self.policy.driver.unwrap_or(format) };
        let mut whole = io::Cursor::new(head.as_slice()).chain(stream);
        if format == Format::Raw {
            return self.write_stream(&mut whole, wanted, None);
        }
        let staged = self.staged(&mut whole, None)?;
        if format != wanted {
            let file = staged.file().try_clone().map_err(reading)?;
            return self.plain_file(file, &head);
        }
        admit_whole(staged.file(), format, self.policy.largest_disk)?;
        self.destination.adopt(staged, format)?;
        Ok(format)
    }
}
