//! The base64 front of a message: what is encoded in any usual way reads as what is not encoded.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use one_protocol::message;
// For its limit on memory.
use ferrostore_fuzz as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = message::parse(input);
    let Some((&width, xml)) = input.split_first() else { return };
    if xml.first() != Some(&b'<') {
        return;
    }
    let mut encoded = String::new();
    for (index, character) in STANDARD.encode(xml).chars().enumerate() {
        if width > 0 && index > 0 && index % usize::from(width) == 0 {
            encoded.push_str(if width % 2 == 0 { "\n" } else { "\r\n" });
        }
        encoded.push(character);
    }
    let padded = message::parse(encoded.as_bytes());
    let bare = message::parse(encoded.trim_end_matches(['=', '\r', '\n']).as_bytes());
    // Blanks around the text mean nothing in either form.
    let plain = message::parse(xml).map(|message| format!("{message:?}")).ok();
    for encoded in [padded, bare] {
        let encoded = encoded.map(|message| format!("{message:?}")).ok();
        assert_eq!(encoded.is_some(), plain.is_some());
        if xml.trim_ascii() == xml {
            assert_eq!(encoded, plain);
        }
    }
});
