//! Checksum lists and signatures by which an image must not be registered.

use crate::{MinisignKey, Publisher};
use std::path::PathBuf;

/// The digests of an image, and what the lists are made of.
#[derive(Clone, Debug)]
pub struct Digests {
    /// SHA256 of the image.
    pub sha256: String,
    /// SHA512 of the image.
    pub sha512: String,
    /// MD5 of the image.
    pub md5: String,
}

/// A list that must be refused, and what comes with it.
#[derive(Debug)]
pub struct HostileList {
    /// What is wrong.
    pub name: String,
    /// The list.
    pub list: Vec<u8>,
    /// What SIGNATURE_URL leads to.
    pub signature: Option<Vec<u8>>,
    /// What KEYRING names.
    pub keyring: Option<PathBuf>,
}

/// The name that the image has.
pub const NAME: &str = "disk.img";

fn unsigned(name: impl Into<String>, list: impl Into<Vec<u8>>) -> HostileList {
    HostileList { name: name.into(), list: list.into(), signature: None, keyring: None }
}

/// Lists without signatures.
pub fn lists(right: &Digests) -> Vec<HostileList> {
    let (sha, md5) = (&right.sha256, &right.md5);
    let wrong = "0123456789abcdef".repeat(4);
    let wrong512 = wrong.repeat(2);
    let mut lists = broken_forms(right);
    lists.extend([
        unsigned("an empty list", ""),
        unsigned("blank lines", "\n \n\t\r\n"),
        unsigned("a page", "<html><body>Please log in</body></html>\n"),
        unsigned("JSON", format!("{{\"sha256\": \"{sha}\"}}")),
        unsigned("a wrong digest", format!("{wrong}  {NAME}\n")),
        unsigned("a bare wrong digest", wrong.clone()),
        unsigned(
            "the digest of nothing",
            format!(
                "{}  {NAME}\n",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            ),
        ),
        unsigned("a right and a wrong digest", format!("{sha}  {NAME}\n{wrong}  {NAME}\n")),
        unsigned("a wrong and a right digest", format!("{wrong}  {NAME}\n{sha}  {NAME}\n")),
        unsigned("GNU and BSD that differ", format!("{sha}  {NAME}\nSHA256 ({NAME}) = {wrong}\n")),
        unsigned("two bare digests", format!("{sha}\n{wrong}\n")),
        unsigned("a wrong stronger digest", format!("{sha}  {NAME}\n{wrong512}  {NAME}\n")),
        unsigned("a right weaker digest", format!("{md5}  {NAME}\n{wrong}  {NAME}\n")),
        unsigned("a list of 1 MiB and a byte", padded(&format!("{sha}  {NAME}\n"), (1 << 20) + 1)),
        unsigned("a line of 1 MiB", "a".repeat(1 << 20)),
        unsigned("UTF-16", utf16(&format!("{sha}  {NAME}\n"))),
        unsigned("NUL in the name", format!("{sha}  {NAME}\0.old\n")),
        unsigned("compressed", [b"\x1f\x8b\x08\0".to_vec(), sha.clone().into_bytes()].concat()),
    ]);
    for name in [
        "other.img",
        "xdisk.img",
        "disk.img.gz",
        "disk.im",
        "isk.img",
        "img",
        "DISK.IMG",
        "disk.img/",
        "/other/disk.img",
        "other/disk.img",
        "../disk.img",
        "disk.img?x",
        "disk.img x",
        "disk%2Eimg",
        "file:///disk.img",
        ".",
        "*disk.img",
    ] {
        lists.push(unsigned(format!("only {name}"), format!("{sha}  {name}\n")));
    }
    lists
}

/// Lines that have the right digest in a form that is none.
fn broken_forms(right: &Digests) -> Vec<HostileList> {
    let (sha, md5) = (&right.sha256, &right.md5);
    [
        ("cut off", format!("{}  {NAME}\n", &sha[1..])),
        ("a digit too many", format!("{sha}0  {NAME}\n")),
        ("no hexadecimal digit", format!("{}g  {NAME}\n", &sha[1..])),
        ("commented out", format!("# {sha}  {NAME}\n")),
        ("quoted", format!("\"{sha}\"  {NAME}\n")),
        ("with 0x", format!("0x{sha}  {NAME}\n")),
        ("in groups", format!("{} {}  {NAME}\n", &sha[..32], &sha[32..])),
        ("name first", format!("{NAME}  {sha}\n")),
        ("a comma", format!("{sha},{NAME}\n")),
        ("carriage returns only", format!("{sha}  {NAME}\r{sha}  x\r")),
        ("a false escape", format!("\\{sha}  {NAME}\\x\n")),
        ("an unknown algorithm", format!("SHA3-256 ({NAME}) = {sha}\n")),
        ("BLAKE2", format!("BLAKE2b-256 ({NAME}) = {sha}\n")),
        ("an algorithm of another length", format!("SHA512 ({NAME}) = {sha}\n")),
        ("no algorithm", format!("({NAME}) = {sha}\n")),
        ("not closed", format!("SHA256 ({NAME} = {sha}\n")),
        ("no equals sign", format!("SHA256 ({NAME}) {sha}\n")),
        ("two equals signs", format!("SHA256 ({NAME}) == {sha}\n")),
        ("MD5 that is SHA256", format!("MD5 ({NAME}) = {sha}\n")),
        ("SHA256 that is MD5", format!("SHA256 ({NAME}) = {md5}\n")),
    ]
    .into_iter()
    .map(|(name, list)| unsigned(name, list))
    .collect()
}

fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b'\n');
    bytes
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// Names of the publisher's OpenPGP keys.
const TRUSTED: &str = "trusted@example.org";
const OTHER: &str = "other@example.org";
const EXPIRED: &str = "expired@example.org";
const OLD: &str = "old@example.org";
const REVOKED: &str = "revoked@example.org";

/// Lists with a signature, or with none where one must be; the keys that they are held against are the publisher's, and one of
/// minisign.
pub fn signatures(publisher: &Publisher, right: &Digests) -> Vec<HostileList> {
    for name in [TRUSTED, OTHER, REVOKED] {
        publisher.make_key(name);
    }
    publisher.make_expired_key(EXPIRED);
    publisher.make_old_key(OLD);
    let maker = Maker {
        publisher,
        minisign: MinisignKey::new(),
        good: format!("{}  {NAME}\n{}  other.img\n", right.sha256, "5".repeat(64)).into_bytes(),
        right,
        made: Vec::new(),
    };
    maker.all()
}

struct Maker<'p> {
    publisher: &'p Publisher,
    minisign: MinisignKey,
    /// A list as it should be.
    good: Vec<u8>,
    right: &'p Digests,
    made: Vec<HostileList>,
}

impl Maker<'_> {
    fn all(mut self) -> Vec<HostileList> {
        self.by_other_keys();
        self.of_other_lists();
        self.of_another_kind();
        self.damaged();
        self.clear_signed();
        self.by_minisign();
        self.publisher.revoke_key(REVOKED);
        let keys = self.publisher.keyring(&[TRUSTED, EXPIRED, OLD, REVOKED]);
        let minisign = self.publisher.minisign_keyring("minisign.pub", &[&self.minisign]);
        // Two files, as the administrator would name them.
        let keyring = PathBuf::from(format!("{} {}", keys.display(), minisign.display()));
        for made in &mut self.made {
            made.keyring.get_or_insert_with(|| keyring.clone());
        }
        self.made
    }

    fn add(&mut self, name: &str, list: impl AsRef<[u8]>, signature: Option<Vec<u8>>) {
        let (name, list) = (name.to_owned(), list.as_ref().to_vec());
        self.made.push(HostileList { name, list, signature, keyring: None });
    }

    fn add_signature(&mut self, name: &str, signature: impl AsRef<[u8]>) {
        self.add(name, self.good.clone(), Some(signature.as_ref().to_vec()));
    }

    fn by_other_keys(&mut self) {
        let good = self.good.clone();
        let publisher = self.publisher;
        self.add("no signature", &good, None);
        self.add_signature("an unknown key", publisher.detached(OTHER, &good));
        self.add_signature("a revoked key", publisher.detached(REVOKED, &good));
        let past = ["--faked-system-time", "20200102T000000"];
        let expired = [&past[..], &["--detach-sign"]].concat();
        self.add_signature("an expired key", publisher.signed(EXPIRED, &good, &expired));
        let short = [&past[..], &["--default-sig-expire", "2d", "--detach-sign"]].concat();
        self.add_signature("an expired signature", publisher.signed(OLD, &good, &short));
        let sha1 = ["--digest-algo", "SHA1", "--detach-sign"];
        self.add_signature("a signature over SHA1", publisher.signed(TRUSTED, &good, &sha1));
        let key = publisher.exported(&[TRUSTED], &[]);
        self.add_signature("the key instead of a signature", key);
        let good_one = publisher.detached(TRUSTED, &good);
        let bad_one = publisher.detached(TRUSTED, b"other");
        self.add_signature(
            "a good and a bad signature",
            [good_one.clone(), bad_one.clone()].concat(),
        );
        self.add_signature("a bad and a good signature", [bad_one, good_one.clone()].concat());
        let only_other = publisher.keyring(&[OTHER]);
        self.add_signature("a key that is not in this keyring", good_one);
        self.made.last_mut().unwrap().keyring = Some(only_other);
    }

    fn of_other_lists(&mut self) {
        let signature = self.publisher.detached(TRUSTED, &self.good);
        let text = String::from_utf8(self.good.clone()).unwrap();
        let sha = self.right.sha256.clone();
        for (name, list) in [
            ("a line more", format!("{text}{sha}  third.img\n")),
            ("a line less", format!("{sha}  {NAME}\n")),
            ("a blank more", text.replace("  ", "   ")),
            ("no last newline", text.trim_end().to_owned()),
            ("CRLF", text.replace('\n', "\r\n")),
            ("capitals", text.to_uppercase()),
            ("a NUL more", format!("{text}\0")),
            ("twice", text.repeat(2)),
            ("nothing", String::new()),
        ] {
            self.add(&format!("signed, and then {name}"), list, Some(signature.clone()));
        }
        let other = format!("{}  {NAME}\n", "6".repeat(64)).into_bytes();
        let signature = self.publisher.detached(TRUSTED, &other);
        self.add("a signed list with another digest", &other, Some(signature.clone()));
        self.add_signature("a signature of another list", &signature);
        let md5 = format!("{}  {NAME}\n", self.right.md5).into_bytes();
        let signature = self.publisher.detached(TRUSTED, &md5);
        self.add("a signed list with MD5 only", &md5, Some(signature));
    }

    fn of_another_kind(&mut self) {
        let good = self.good.clone();
        let publisher = self.publisher;
        self.add_signature("an empty signature", b"");
        self.add_signature("the list as its own signature", &good);
        self.add_signature("a page", b"<html>");
        self.add_signature("a signature of 1 MiB and a byte", vec![0x88; (1 << 20) + 1]);
        self.add_signature("a long packet", [&b"\x88"[..], &[0xff; 5000]].concat());
        // Each of them is a good signature, of what is in it.
        for arguments in [
            &["--sign"][..],
            &["--armor", "--sign"],
            &["--clear-sign"],
            &["--compress-algo", "none", "--sign"],
        ] {
            let message = publisher.signed(TRUSTED, b"anything", arguments);
            let name = format!("a signed message ({})", arguments.join(" "));
            self.add_signature(&name, &message);
            let relabelled =
                String::from_utf8_lossy(&message).replace("PGP MESSAGE", "PGP SIGNATURE");
            self.add_signature(&format!("{name}, relabelled"), relabelled.as_bytes());
            if !arguments.contains(&"--clear-sign") {
                self.add(&format!("{name} as the list"), &message, None);
            }
        }
        let message = publisher.signed(TRUSTED, &good, &["--sign"]);
        let tail = publisher.detached(OTHER, &good);
        self.add_signature("a signature and a message", [tail, message].concat());
    }

    fn damaged(&mut self) {
        let signature = self.publisher.detached(TRUSTED, &self.good);
        // Type, issuer, time and value; the length of the packet is not signed.
        for at in [0, 3, 4, 5, 8, 20, 23] {
            let mut damaged = signature.clone();
            damaged[at] ^= 0x41;
            self.add_signature(&format!("byte {at} changed"), damaged);
        }
        for back in [1, 20, 50] {
            let mut damaged = signature.clone();
            let at = damaged.len() - back;
            damaged[at] ^= 1;
            self.add_signature(&format!("byte {back} from the end changed"), damaged);
        }
        for length in [1, 2, 10, signature.len() / 2, signature.len() - 1] {
            self.add_signature(&format!("cut off after {length} bytes"), &signature[..length]);
        }
    }

    fn clear_signed(&mut self) {
        let publisher = self.publisher;
        let (good, sha) = (self.good.clone(), self.right.sha256.clone());
        let whole = String::from_utf8(publisher.clear_signed(TRUSTED, &good)).unwrap();
        let other = format!("{}  other.img\n", "5".repeat(64)).into_bytes();
        let other = String::from_utf8(publisher.clear_signed(TRUSTED, &other)).unwrap();
        let line = format!("{sha}  {NAME}\n");
        let begin = "-----BEGIN PGP SIGNED MESSAGE-----\n";
        let forged = format!("{begin}Hash: SHA256\n\n{line}");
        for (name, list) in [
            ("a line before the signed text", format!("{line}{other}")),
            ("a line behind the signature", format!("{other}{line}")),
            ("a line among the headers", other.replacen("\n\n", &format!("\n{line}\n"), 1)),
            ("a line as a header", other.replacen("\n\n", &format!("\nComment: x\n{line}\n"), 1)),
            (
                "a line in the signature",
                other.replacen(
                    "-----BEGIN PGP SIGNATURE-----\n",
                    &format!("-----BEGIN PGP SIGNATURE-----\n{line}"),
                    1,
                ),
            ),
            (
                "a line at the end of the text",
                other.replacen(
                    "\n-----BEGIN PGP SIGNATURE",
                    &format!("\n{line}-----BEGIN PGP SIGNATURE"),
                    1,
                ),
            ),
            ("a line in front of the text", other.replacen("\n\n", &format!("\n\n{line}"), 1)),
            ("a changed digest", whole.replace(&sha, &"7".repeat(64))),
            ("an unsigned text before a signed one", format!("{forged}\n{other}")),
            ("two signed texts", format!("{other}{whole}")),
            ("the same text twice", format!("{whole}{whole}")),
            ("a signed text within one that is not", format!("{forged}{whole}")),
            ("no signature", forged.clone()),
            (
                "no signature block",
                whole.split("-----BEGIN PGP SIGNATURE").next().unwrap().to_owned(),
            ),
            (
                "the signature of another text",
                whole.split("-----BEGIN PGP SIGNATURE").next().unwrap().to_owned()
                    + "-----BEGIN PGP SIGNATURE"
                    + other.split("-----BEGIN PGP SIGNATURE").nth(1).unwrap(),
            ),
            ("blanks before the beginning", format!(" {whole}")),
        ] {
            self.add(&format!("clear-signed: {name}"), list, None);
        }
        self.add("clear-signed by an unknown key", publisher.clear_signed(OTHER, &good), None);
        let past = ["--faked-system-time", "20200102T000000", "--clear-sign"];
        self.add("clear-signed by an expired key", publisher.signed(EXPIRED, &good, &past), None);
        self.add("clear-signed by a revoked key", publisher.clear_signed(REVOKED, &good), None);
    }

    fn by_minisign(&mut self) {
        let good = self.good.clone();
        let signature = String::from_utf8(self.minisign.sign(&good)).unwrap();
        let lines: Vec<&str> = signature.lines().collect();
        let other = String::from_utf8(self.minisign.sign(b"other")).unwrap();
        let others: Vec<&str> = other.lines().collect();
        self.add_signature("minisign: an unknown key", MinisignKey::new().sign(&good));
        self.add_signature("minisign: of another list", &other);
        let with = |at: usize, line: &str| {
            let mut lines = lines.clone();
            lines[at] = line;
            lines.join("\n") + "\n"
        };
        for (name, text) in [
            ("another trusted comment", with(2, "trusted comment: file:disk.img")),
            ("no trusted comment", with(2, "comment")),
            ("the comment's signature of another", with(3, others[3])),
            ("the signature of another", with(1, others[1])),
            ("no base64", with(1, "RUQ!")),
            ("an empty signature", with(1, "")),
            ("cut off", lines[..2].join("\n")),
            ("only a comment", "untrusted comment: x\n".to_owned()),
            (
                "the key's own line",
                with(1, "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"),
            ),
        ] {
            self.add_signature(&format!("minisign: {name}"), text);
        }
        let longer = [good, b"\n".to_vec()].concat();
        self.add(
            "minisign: signed, and then a line more",
            longer,
            Some(signature.clone().into_bytes()),
        );
    }
}
