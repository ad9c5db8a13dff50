//! Checksum lists and signatures made to deceive: by none of them is an image registered.

use ferrostore_tests::hostile::lists::{Digests, HostileList, NAME, lists, signatures};
use ferrostore_tests::{Call, Cloud, MIB, Publisher, Web, digest};
use std::fs;

struct World {
    cloud: Cloud,
    web: Web,
    digests: Digests,
}

impl World {
    fn new() -> Self {
        let (cloud, web) = (Cloud::new(), Web::new());
        let disk = cloud.raw(NAME, MIB);
        web.serve(&disk);
        let of = |program| digest(program, &disk);
        let digests =
            Digests { sha256: of("sha256sum"), sha512: of("sha512sum"), md5: of("md5sum") };
        Self { cloud, web, digests }
    }

    /// Calls that register the image by the list: as a file, and by http.
    fn calls(&self, hostile: &HostileList) -> [Call<'_>; 2] {
        let file = |name: &str, bytes: &[u8]| {
            let path = self.cloud.images().join(name);
            fs::write(&path, bytes).unwrap();
            self.web.serve(&path);
        };
        file("SUMS", &hostile.list);
        if let Some(signature) = &hostile.signature {
            file("SUMS.sig", signature);
        }
        let paths =
            [self.cloud.images().join(NAME).to_str().unwrap().to_owned(), self.web.url(NAME)];
        paths.map(|path| {
            let mut call = self.cloud.cp(path).set("IMAGE/TEMPLATE/CHECKSUM_URL", "SUMS");
            if hostile.signature.is_some() {
                call = call.set("IMAGE/TEMPLATE/SIGNATURE_URL", "SUMS.sig");
            }
            if let Some(keyring) = &hostile.keyring {
                call = call
                    .set("DATASTORE/TEMPLATE/KEYRING", keyring.to_str().unwrap())
                    .set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "yes");
            }
            call.under(["prlimit", "--cpu=20", "--core=0"])
        })
    }

    /// Makes the calls, each of which must fail in a line that names an attribute of a list; what is wrong with that.
    fn complaints(&self, all: &[HostileList]) -> Vec<String> {
        let mut complaints = Vec::new();
        for hostile in all {
            for call in self.calls(hostile) {
                let check = || {
                    let failure = call.run().fails().for_any_reason();
                    println!("{}: {}", hostile.name, failure.text);
                    failure.saying_any(&["CHECKSUM_URL", "SIGNATURE_URL"]);
                };
                if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    complaints.push(format!("{}: {text}", hostile.name));
                }
            }
        }
        complaints
    }
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn lists_are_refused() {
    let world = World::new();
    let all = lists(&world.digests);
    assert!(all.len() >= 50, "{} lists", all.len());
    none(&world.complaints(&all));
}

#[test]
fn signatures_are_refused() {
    let (world, publisher) = (World::new(), Publisher::new());
    let all = signatures(&publisher, &world.digests);
    assert!(all.len() >= 80, "{} signatures", all.len());
    none(&world.complaints(&all));
}

/// Where keys are set and nothing is required, a signature that is there counts all the same.
#[test]
fn signatures_are_refused_where_none_is_required() {
    let (world, publisher) = (World::new(), Publisher::new());
    let mut complaints = Vec::new();
    for hostile in signatures(&publisher, &world.digests) {
        if hostile.signature.is_none() {
            continue;
        }
        for call in world.calls(&hostile) {
            let outcome = call.set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "no").run();
            if outcome.status.success() {
                complaints.push(hostile.name.clone());
            }
        }
    }
    none(&complaints);
}
