//! The examples of `docs/verify.md`, against servers that have what these publishers have: the names of the files, the layout of the
//! lists, the forms of the signatures. Only hosts and keys are the test's own.

use super::{KEYRING, LIST, SIGNATURE, text};
use ferrostore_tests::{
    Call, Cloud, MIB, MinisignKey, Page, Publisher, Rule, Web, digest, docs, pattern, wrong_digest,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// An example: the heading that it stands below, and its attributes.
struct Example {
    heading: String,
    attributes: BTreeMap<String, String>,
}

impl Example {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// PATH.
    fn path(&self) -> &str {
        &self.attributes["PATH"]
    }

    /// The URL of the list.
    fn list(&self) -> String {
        beside(self.path(), &self.attributes["CHECKSUM_URL"])
    }
}

/// `name`, where that is a URL, or the URL of the file of this name beside `url`.
fn beside(url: &str, name: &str) -> String {
    if name.contains("://") {
        name.to_owned()
    } else {
        format!("{}/{name}", url.rsplit_once('/').unwrap().0)
    }
}

/// All images that the documentation describes.
fn examples() -> Vec<Example> {
    let page = docs::Page::read(docs::repository().join("docs/verify.md"));
    let text = page.text();
    let (mut heading, mut examples) = (String::new(), Vec::new());
    let mut block: Option<BTreeMap<String, String>> = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut heading);
        } else if line.starts_with("```") {
            match block.take() {
                None => block = Some(BTreeMap::new()),
                Some(attributes) if attributes.contains_key("PATH") => {
                    examples.push(Example { heading: heading.clone(), attributes });
                }
                Some(_) => {}
            }
        } else if let (Some(block), Some((name, value))) = (&mut block, line.split_once('=')) {
            block.insert(name.to_owned(), value.trim_matches('"').to_owned());
        }
    }
    examples
}

/// Servers, by the names that they have in the documentation.
#[derive(Default)]
struct Servers(BTreeMap<String, Web>);

impl Servers {
    fn split(url: &str) -> (&str, &str) {
        url.strip_prefix("https://").expect("all of them are secure").split_once('/').unwrap()
    }

    /// Has a file handed out as `url`.
    fn put(&mut self, url: &str, file: &Path) {
        let (host, path) = Self::split(url);
        let page = Page::of(file);
        // This one only knows mirrors.
        let page = if host == "download.fedoraproject.org" {
            Page::redirect(self.web("mirror.example.org").page(path, page))
        } else {
            page
        };
        self.web(host).page(path, page);
    }

    fn web(&mut self, host: &str) -> &Web {
        self.0.entry(host.to_owned()).or_default()
    }

    /// The URL where a file of the documentation is here.
    fn url(&mut self, url: &str) -> String {
        let (host, path) = Self::split(url);
        self.web(host).url(path)
    }
}

/// A release, as its publisher lays it out.
struct Release {
    list: Vec<u8>,
    signature: Option<Vec<u8>>,
    keyring: Option<PathBuf>,
    /// Who signed it.
    signer: Option<String>,
}

const UBUNTU: &str = "UEC Image Automatic Signing Key <cdimage@ubuntu.com>";
const FEDORA: &str = "Fedora (42) <fedora-42-primary@fedoraproject.org>";
const DEBIAN_CD: &str = "Debian CD signing key <debian-cd@lists.debian.org>";
const OTHER: &str = "An older key <older@example.org>";

struct World {
    cloud: Cloud,
    publisher: Publisher,
    minisign: MinisignKey,
    servers: Servers,
}

impl World {
    fn new() -> Self {
        let publisher = Publisher::new();
        for key in [UBUNTU, FEDORA, DEBIAN_CD, OTHER] {
            publisher.make_rsa_key(key);
        }
        let (cloud, minisign) = (Cloud::new(), MinisignKey::new());
        Self { cloud, publisher, minisign, servers: Servers::default() }
    }

    /// The image of an example, with content that its name promises.
    fn image(&self, example: &Example) -> PathBuf {
        let name = example.path().rsplit_once('/').unwrap().1;
        if example.attribute("TYPE") == Some("CDROM") {
            let mut disc = pattern(3, MIB as usize);
            disc[0x8000..0x8006].copy_from_slice(b"\x01CD001");
            return self.cloud.file(name, disc);
        }
        let disk = self.cloud.raw("disk.raw", 2 * MIB);
        self.cloud.qcow2(&disk, name, "")
    }

    /// What the publisher of an example has beside an image.
    fn releases(&self, example: &Example, image: &Path) -> Vec<Release> {
        let name = image.file_name().unwrap().to_str().unwrap();
        let (sha256, sha512) = (digest("sha256sum", image), digest("sha512sum", image));
        let size = fs::metadata(image).unwrap().len();
        let unsigned = |list: String| Release {
            list: list.into(),
            signature: None,
            keyring: None,
            signer: None,
        };
        let signed = |key: &str, list: Vec<u8>, signature| {
            let keys = self.publisher.etc("keys.gpg", self.publisher.exported(&[key], &[]));
            let keyring = keys.with_file_name("publisher.gpg");
            let _ = fs::remove_file(&keyring);
            // As a package's keyring is linked.
            symlink(keys, &keyring).unwrap();
            let signer = Some(self.publisher.fingerprint(key));
            Release { list, signature, keyring: Some(keyring), signer }
        };
        let detached = |key: &str, more: &[&str], list: String| {
            let words = [&["--armor", "--detach-sign"], more].concat();
            let signature = self.publisher.signed(key, list.as_bytes(), &words);
            signed(key, list.into(), Some(signature))
        };
        let bsd = format!(
            "# Other-1.x86_64.raw.xz: 4096 bytes\nSHA256 (Other-1.x86_64.raw.xz) = {}\n\
             # {name}: {size} bytes\nSHA256 ({name}) = {sha256}\n",
            "5".repeat(64)
        );
        match example.heading.as_str() {
            // With the mark of binary mode; by the key of now, and one of before.
            "Ubuntu" | "What is verified" => {
                let list = format!(
                    "{} *noble-server-cloudimg-amd64.squashfs\n{sha256} *{name}\n{} *noble-server-cloudimg-amd64.vmdk\n",
                    "a".repeat(64),
                    "b".repeat(64)
                );
                vec![detached(UBUNTU, &["--local-user", OTHER], list)]
            }
            "Fedora" => {
                vec![signed(FEDORA, self.publisher.clear_signed(FEDORA, bsd.as_bytes()), None)]
            }
            "Debian" if example.attribute("SIGNATURE_URL").is_some() => {
                let list = format!(
                    "{}  debian-13.0.0-amd64-DVD-1.iso\n{sha512}  {name}\n",
                    "c".repeat(128)
                );
                vec![detached(DEBIAN_CD, &[], list)]
            }
            "Debian" => vec![unsigned(format!(
                "{}  debian-13-genericcloud-amd64.json\n{sha512}  {name}\n{}  debian-13-genericcloud-amd64.raw\n",
                "d".repeat(128),
                "e".repeat(128)
            ))],
            "Rocky" => vec![unsigned(bsd)],
            // With and without the name.
            "Alpine" => [format!("{sha512}\n"), format!("{sha512}  {name}\n")].map(unsigned).into(),
            "Lists of your own" => {
                let list = format!("{sha256}  {name}\n").into_bytes();
                let signature = Some(self.minisign.sign(&list));
                let keyring = Some(self.publisher.minisign_keyring("own.pub", &[&self.minisign]));
                vec![Release { list, signature, keyring, signer: Some(self.minisign.number()) }]
            }
            other => panic!("who publishes {other}?"),
        }
    }

    /// Puts a release where the example looks for it.
    fn publish(&mut self, example: &Example, image: &Path, release: &Release) {
        let place = self.cloud.images();
        let put = |servers: &mut Servers, url: &str, bytes: &[u8]| {
            let file = place.join("served");
            fs::write(&file, bytes).unwrap();
            let kept = place.join(url.rsplit_once('/').unwrap().1.to_owned() + ".served");
            fs::rename(file, &kept).unwrap();
            servers.put(url, &kept);
        };
        self.servers.put(example.path(), image);
        put(&mut self.servers, &example.list(), &release.list);
        if let (Some(name), Some(signature)) =
            (example.attribute("SIGNATURE_URL"), &release.signature)
        {
            put(&mut self.servers, &beside(&example.list(), name), signature);
        }
    }

    /// The call by the very attributes of the example, in a datastore that requires what it can.
    fn call(&mut self, example: &Example, release: &Release) -> Call<'_> {
        let here = |servers: &mut Servers, value: &str| {
            if value.contains("://") { servers.url(value) } else { value.to_owned() }
        };
        let path = here(&mut self.servers, example.path());
        let list = here(&mut self.servers, &example.attributes["CHECKSUM_URL"]);
        let mut call = self.cloud.cp(path).set(LIST, list);
        for (name, value) in &example.attributes {
            match name.as_str() {
                "PATH" | "CHECKSUM_URL" | "NAME" => {}
                "SIGNATURE_URL" => call = call.set(SIGNATURE, here(&mut self.servers, value)),
                "TYPE" => {
                    assert_eq!(value, "CDROM");
                    call = call.cdrom();
                }
                other => panic!("what is {other}?"),
            }
        }
        match &release.keyring {
            Some(keyring) => {
                let keyring = text(keyring);
                call.set(KEYRING, keyring).set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "yes")
            }
            None => call.set("DATASTORE/TEMPLATE/REQUIRE_DIGEST", "yes"),
        }
    }
}

#[test]
fn the_examples_of_the_documentation_verify_what_these_publishers_publish() {
    let mut world = World::new();
    let examples = examples();
    let headings: Vec<&str> = examples.iter().map(|example| example.heading.as_str()).collect();
    let expected = ["What is verified", "Ubuntu", "Fedora", "Debian", "Debian", "Rocky", "Alpine"];
    assert_eq!(headings, [&expected[..], &["Lists of your own"]].concat());
    for example in &examples {
        println!("{}: {}", example.heading, example.path());
        let image = world.image(example);
        for release in world.releases(example, &image) {
            world.publish(example, &image, &release);
            let signer = release.signer.clone();
            let outcome = world.call(example, &release).run();
            let log = outcome.log_lines().join("\n");
            outcome.succeeds();
            assert!(log.contains("INFO: verified: sha"), "{log}");
            match signer {
                Some(signer) => assert!(log.contains(&format!("signed by {signer}")), "{log}"),
                None => assert!(!log.contains("signed by"), "{log}"),
            }

            // Another image under its name, and a list of another release.
            let genuine = fs::read(&image).unwrap();
            let mut changed = genuine.clone();
            *changed.last_mut().unwrap() ^= 1;
            fs::write(&image, changed).unwrap();
            let refused = world.call(example, &release).run();
            refused.refused(Rule::DigestMismatch).naming(LIST);
            fs::write(&image, genuine).unwrap();
            let list = String::from_utf8(release.list.clone()).unwrap();
            let digest = [digest("sha256sum", &image), digest("sha512sum", &image)];
            let digest = digest.iter().find(|digest| list.contains(*digest)).unwrap();
            let list = list.replace(digest, &wrong_digest(digest)).into_bytes();
            let forged = Release { list, ..release };
            world.publish(example, &image, &forged);
            let refused = world.call(example, &forged).run();
            match (&forged.signer, &forged.signature) {
                (Some(_), Some(_)) => {
                    refused.fails().naming(SIGNATURE).saying("wrong signature");
                }
                (Some(_), None) => {
                    refused.fails().naming(LIST).saying("wrong signature");
                }
                (None, _) => {
                    refused.refused(Rule::DigestMismatch).naming(LIST);
                }
            }
        }
    }
}
