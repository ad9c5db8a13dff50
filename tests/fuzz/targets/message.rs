//! A message, as XML or whatever else stands in its place.

#![no_main]

use one_protocol::message;
use runtime::text;
// For its limit on memory.
use ferrostore_fuzz as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match message::parse(input) {
        Ok(message) => {
            if let Ok(image) = message.image() {
                let _ = (image.path(), image.source(), image.size(), image.target_snapshot());
            }
            if let Ok(datastore) = message.datastore() {
                let _ = (datastore.base_path().map(text::path), datastore.ds_mad());
            }
            let again = message::parse(message.encoded().as_bytes());
            assert!(again.is_ok(), "what was read once is read again");
        }
        Err(error) => {
            // oned would take a second line for another message.
            let line = text::one_line(&error.to_string());
            assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        }
    }
});
