"""The row of tests/bench about images with a signed checksum list, from an nginx on this machine."""
import http.client, os, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from bench_http import Nginx, digest, warm
from benchlib import MIB, SET, driver, drop_caches, inputs, load_programs, note, row, source, tool, wanted

NEEDS = {"nginx": "nginx-light", "gpg": "gnupg", "gpgv": "gpgv"}
TITLE = "http: disk.raw to raw, with a signed list against SHA256 given"
SIZE = 1024  # MiB
BLOCKS, PAIRS = 6, 5


def signed_list(name, sha256):
    """A list and its signature beside the input images; the keyring, in a directory of its own below /etc."""
    home, etc = Path(tempfile.mkdtemp(dir=SET.scratch)), Path(tempfile.mkdtemp(prefix="ferrostore-bench.", dir="/etc"))
    home.chmod(0o700)
    etc.chmod(0o755)
    sums = inputs() / "SHA256SUMS"
    sums.write_text(f"{'5' * 64}  other.raw\n{sha256} *{name}\n")
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--yes", "--passphrase", ""]
    tool(*gpg, "--quick-generate-key", "bench@example.org", "ed25519", "sign", "never")
    tool(*gpg, "--output", etc / "keys.gpg", "--export")
    tool(*gpg, "--output", inputs() / "SHA256SUMS.gpg", "--detach-sign", sums)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False)
    shutil.rmtree(home)
    return etc


def two_requests(nginx):
    """Seconds that a list and a signature take on one connection."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", nginx.port)
    for name in ("SHA256SUMS", "SHA256SUMS.gpg"):
        connection.request("GET", f"/{name}")
        connection.getresponse().read()
    connection.close()
    return time.perf_counter() - start


def part(megabytes):
    """The beginning of the disk: short runs, and many of them, tell more than a few long ones."""
    path, whole = inputs() / "part.raw", source("disk.raw")
    if not path.exists():
        tool("cp", "--sparse=always", whole, path)
        os.truncate(path, megabytes * MIB)
    return path


def rows(fs):
    """`cp` by http with a list and its signature, against the same with its digest in the message."""
    if not wanted(TITLE):
        return
    note(f"- {TITLE}")
    size = min(SET.size, SIZE)
    path, nginx = part(size), Nginx()
    etc, sha256 = signed_list(path.name, digest(path)), digest(path)
    sides = {
        "ours": ("<CHECKSUM_URL>SHA256SUMS</CHECKSUM_URL><SIGNATURE_URL>SHA256SUMS.gpg</SIGNATURE_URL>",
                 {"KEYRING": etc / "keys.gpg", "REQUIRE_SIGNATURE": "yes"}),
        "reference": (f"<SHA256>{sha256}</SHA256>", {}),
    }
    samples, requests = {side: [] for side in sides}, {}

    def run(side):
        attributes, settings = sides[side]
        fs.empty(fs.base)
        fs.flush()
        nginx.requests()
        start = time.perf_counter()
        driver(f"cp by http, {side} of a signed list", "cp", fs.base,
               {"TYPE": 0, "PATH": nginx.url(path.name), "SIZE": size}, settings, template_of_image=attributes)
        fs.flush()
        samples[side].append(time.perf_counter() - start)
        requests[side] = nginx.requests()

    drop_caches()
    load_programs()
    tool("gpgv", "--version")
    warm(path)
    try:
        if not SET.tiny:
            for side in sides:
                run(side)
                samples[side].clear()
        for pair in range(1 if SET.tiny else BLOCKS * PAIRS):
            # Each side is as often the first as the second.
            for side in sorted(sides, reverse=pair % 2 == 1):
                run(side)
        small = statistics.median(two_requests(nginx) for _ in range(20))
    finally:
        nginx.close()
        shutil.rmtree(etc)
        fs.empty(fs.base)
    if requests != {"ours": 3, "reference": 1}:
        sys.exit(f"bench: {TITLE}: requests {requests}")
    # What a busy disk adds to a single run is more than there is between the two: medians leave it out, and the sum of those of several
    # blocks evens out what changes slowly.
    count = len(samples["ours"])
    blocks = [slice(start, start + PAIRS) for start in range(0, count, PAIRS)]
    mine, other = (sum(statistics.median(samples[side][block]) for block in blocks) / len(blocks)
                   for side in ("ours", "reference"))
    row(f"{TITLE} ({size} MiB, {count} pairs)", f"{mine * 1000:.0f} ms", f"{other * 1000:.0f} ms", mine / other,
        f"≤ 1.02 × and two small requests ({small * 1000:.1f} ms)", mine <= 1.02 * other + small, samples)
