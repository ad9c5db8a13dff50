//! What gpgv says of signatures in its status lines (GnuPG's `doc/DETAILS`).

use super::error::SignatureError;

/// What the lines begin with.
const PREFIX: &str = "[GNUPG:] ";
/// Hash algorithms of OpenPGP (RFC 9580, 9.5) for which two texts with one signature can be made: MD5, SHA1, RIPEMD160.
const WEAK: [&str; 3] = ["1", "2", "3"];
/// Types of signatures (RFC 9580, 5.2.1) that are for a document: binary, text.
const OF_DOCUMENTS: [&str; 2] = ["00", "01"];
/// The reason in `ERRSIG` that the key is not known.
const NO_KEY: &str = "9";

/// The fingerprint of the first key by which one of the signatures is good.
///
/// A file may have several signatures, such as one by an older key: that one of them is good is enough, as long as none is wrong. gpgv fails
/// where it can't verify one of them; where that is not the reason, there is something in the file that is none.
///
/// # Errors
/// [`SignatureError`], for the reason that tells most.
pub(super) fn good_key(status: &str, is_success: bool) -> Result<String, SignatureError> {
    let mut good = None;
    let mut may_fail = false;
    let mut reason = None;
    // What the next VALIDSIG line is about.
    let mut verdict: Option<Result<(), SignatureError>> = None;
    for line in status.lines().filter_map(|line| line.strip_prefix(PREFIX)) {
        let mut words = line.split(' ');
        let keyword = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let word = |number: usize| words.get(number).copied().unwrap_or_default();
        let key = || word(0).to_owned();
        match keyword {
            "NEWSIG" => verdict = None,
            "GOODSIG" => verdict = Some(Ok(())),
            "EXPSIG" => verdict = Some(Err(SignatureError::Expired(key()))),
            "EXPKEYSIG" => verdict = Some(Err(SignatureError::ExpiredKey(key()))),
            "REVKEYSIG" => verdict = Some(Err(SignatureError::RevokedKey(key()))),
            "BADSIG" => return Err(SignatureError::Wrong(key())),
            "ERRSIG" if word(5) == NO_KEY => {
                may_fail = true;
                keep(&mut reason, SignatureError::UnknownKey(key()));
            }
            "ERRSIG" => keep(&mut reason, SignatureError::Unsupported(key())),
            "VALIDSIG" => match verdict.take() {
                Some(Ok(())) => match valid(&words) {
                    Ok(fingerprint) => good = good.or(Some(fingerprint)),
                    Err(error) => keep(&mut reason, error),
                },
                Some(Err(error)) => keep(&mut reason, error),
                None => {}
            },
            _ => {}
        }
    }
    // gpgv writes VALIDSIG for what has expired, too; where it doesn't, the reason counts all the same.
    if let Some(Err(error)) = verdict {
        keep(&mut reason, error);
    }
    let good = good.filter(|_| is_success || may_fail);
    good.ok_or_else(|| reason.unwrap_or(SignatureError::None))
}

/// The fingerprint of the primary key in a VALIDSIG line: `<fingerprint> <date> <time> <expires> <version> <reserved> <key algorithm>
/// <hash algorithm> <class> <primary fingerprint>`.
fn valid(words: &[&str]) -> Result<String, SignatureError> {
    let [fingerprint, _, _, _, _, _, _, hash, class, rest @ ..] = words else {
        return Err(SignatureError::None);
    };
    let fingerprint = rest.first().unwrap_or(fingerprint);
    if !fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()) || fingerprint.len() < 40 {
        return Err(SignatureError::None);
    }
    if WEAK.contains(hash) {
        return Err(SignatureError::Weak((*fingerprint).to_owned()));
    }
    if !OF_DOCUMENTS.contains(class) {
        return Err(SignatureError::None);
    }
    Ok((*fingerprint).to_owned())
}

/// Keeps the reason that tells most: a key that is known and was refused, rather than one that is not known.
fn keep(reason: &mut Option<SignatureError>, error: SignatureError) {
    if matches!(reason, None | Some(SignatureError::UnknownKey(_))) {
        *reason = Some(error);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "8067E8F2A33EC8521BDC61BCBFEEF7B0F25445EC";
    const GOOD: &str = "[GNUPG:] NEWSIG a@x\n[GNUPG:] GOODSIG BFEEF7B0F25445EC A <a@x>\n\
        [GNUPG:] VALIDSIG 1111111111111111111111111111111111111111 2026-11-28 1795899571 0 4 0 22 8 00 8067E8F2A33EC8521BDC61BCBFEEF7B0F25445EC\n";
    const UNKNOWN: &str = "[GNUPG:] NEWSIG b@x\n[GNUPG:] ERRSIG E277CAC6F19D509B 22 8 00 1795899572 9 901136FEB82796A2EAC705DEE277CAC6F19D509B\n\
        [GNUPG:] NO_PUBKEY E277CAC6F19D509B\n[GNUPG:] FAILURE gpgv-exit 33554433\n";
    const BAD: &str = "[GNUPG:] NEWSIG\n[GNUPG:] BADSIG BFEEF7B0F25445EC A <a@x>\n";

    fn refused(status: &str) -> SignatureError {
        good_key(status, true).unwrap_err()
    }

    #[test]
    fn one_good_signature_among_unknown_ones_is_enough_and_names_its_primary_key() {
        for status in [format!("{GOOD}{UNKNOWN}"), format!("{UNKNOWN}{GOOD}")] {
            assert_eq!(good_key(&status, false).unwrap(), KEY);
        }
        assert_eq!(good_key(GOOD, true).unwrap(), KEY);
        assert!(good_key(GOOD, false).is_err(), "gpgv has found something else");
    }

    #[test]
    fn a_wrong_signature_outweighs_good_ones() {
        for status in [BAD.to_owned(), format!("{GOOD}{BAD}"), format!("{BAD}{GOOD}")] {
            assert!(matches!(refused(&status), SignatureError::Wrong(_)));
        }
    }

    #[test]
    fn what_is_not_good_is_refused_with_its_reason() {
        type Is = fn(&SignatureError) -> bool;
        let weak = GOOD.replace(" 22 8 00", " 22 2 00");
        let of_a_key = GOOD.replace(" 8 00 ", " 8 13 ");
        let cases: [(String, Is); 9] = [
            (GOOD.replace("GOODSIG", "EXPSIG"), |e| matches!(e, SignatureError::Expired(_))),
            (GOOD.replace("GOODSIG", "EXPKEYSIG"), |e| matches!(e, SignatureError::ExpiredKey(_))),
            (GOOD.replace("GOODSIG", "REVKEYSIG"), |e| matches!(e, SignatureError::RevokedKey(_))),
            (UNKNOWN.to_owned(), |e| matches!(e, SignatureError::UnknownKey(_))),
            (weak, |e| matches!(e, SignatureError::Weak(_))),
            (of_a_key, |e| matches!(e, SignatureError::None)),
            (String::new(), |e| matches!(e, SignatureError::None)),
            // Without a verdict before it, or without the prefix.
            (GOOD.replace("GOODSIG", "OTHER"), |e| matches!(e, SignatureError::None)),
            (GOOD.replace("[GNUPG:] ", "gpgv: "), |e| matches!(e, SignatureError::None)),
        ];
        for (status, is) in cases {
            let error = refused(&status);
            assert!(is(&error), "{error}: {status}");
        }
    }
}
