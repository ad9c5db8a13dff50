#!/usr/bin/env python3
"""Makes the first inputs of the fuzz targets: the canned messages, archives, and scripts that make datastores.

usage: tests/fuzz/seeds.py DIRECTORY
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def keep(directory, name, data):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)


def messages(corpus):
    for path in sorted((ROOT / "tests/canned").glob("*.xml")):
        xml = path.read_bytes().strip()
        keep(corpus / "message", path.name, xml)
        keep(corpus / "base64", path.name, b"\x4c" + xml)
        keep(corpus / "base64", path.name + ".plain", b"\x00" + xml)


OVF = """<?xml version="1.0"?><Envelope xmlns:ovf="o"><References>
<File ovf:id="f" ovf:href="a%20b.raw" ovf:size="4000" ovf:chunkSize="2000" ovf:compression="gzip"/></References>
<DiskSection><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^10"/>
</DiskSection></Envelope>"""


def archives(corpus):
    """Small archives of every kind: plain, with holes, with long names; zip in its forms; appliances."""
    disk = bytes(range(256)) * 16
    ovf = OVF.replace(' ovf:chunkSize="2000"', "").replace(' ovf:compression="gzip"', "").encode()
    digest = hashlib.sha1(disk).hexdigest()
    shapes = {
        "plain": [("notes", b"text"), ("disk.raw", disk)],
        "long": [("folder/" * 30 + "disk.raw", disk)],
        "appliance": [("vm.ovf", ovf), ("vm.mf", f"SHA1(a b.raw)= {digest}\n".encode()), ("a b.raw", disk)],
        "parts": [("vm.ovf", OVF.replace(' ovf:compression="gzip"', "").encode()),
                  ("a b.raw.000000000", disk[:2000]), ("a b.raw.000000001", disk[2000:4000])],
    }
    for name, members in shapes.items():
        for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
                for path, data in members:
                    if len(path) > 100 and kind == tarfile.USTAR_FORMAT:
                        path = "disk.raw"
                    member = tarfile.TarInfo(path)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
            keep(corpus / "tar", f"{name}-{kind}", out.getvalue()[: -(-len(out.getvalue().rstrip(b"\0")) // 512) * 512 + 1024])
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            for streamed in (False, True):
                out = io.BytesIO()
                with zipfile.ZipFile(Unseekable(out) if streamed else out, "w", method) as packed:
                    for path, data in members:
                        with packed.open(zipfile.ZipInfo(path), "w", force_zip64=streamed) as member:
                            member.write(data)
                keep(corpus / "zip", f"{name}-{method}-{streamed}", out.getvalue())
    with open("sparse.raw", "wb") as file:
        file.truncate(200_000)
        file.seek(65536)
        file.write(disk)
    for name, options in {"gnu": ["--format=gnu"], "0.0": ["--sparse-version=0.0"], "0.1": ["--sparse-version=0.1"],
                          "1.0": ["--sparse-version=1.0"]}.items():
        form = options if name == "gnu" else ["--format=posix", *options]
        subprocess.run(["tar", "-b1", "-S", *form, "-cf", "sparse.tar", "sparse.raw"], check=True)
        keep(corpus / "tar", f"sparse-{name}", Path("sparse.tar").read_bytes())
    keep(corpus / "ovf", "plain", OVF.encode())
    keep(corpus / "ovf", "utf16", OVF.encode("utf-16"))


class Unseekable(io.RawIOBase):
    """A pipe, as zipfile sees it."""

    def __init__(self, out):
        self.out = out

    def writable(self):
        return True

    def write(self, data):
        return self.out.write(data)


def snapshots(corpus):
    """Scripts: (what, where, with what) for each step; see targets/snapshots.rs."""
    directory, link, text, overlay, base = 0, 1, 2, 3, 4
    chain = [base, 0, 0, directory, 1, link, 6, 4, link, 2, 11, overlay, 3, 6, 0, overlay, 4, 7, 0]
    keep(corpus / "snapshots", "chain", bytes(chain))
    keep(corpus / "snapshots", "current", bytes(chain + [text, 8, 13, overlay, 5, 2, 0]))
    local = [directory, 1, base, 2, 0, overlay, 3, 0, 0, overlay, 4, 1, 0, link, 0, 7]
    keep(corpus / "snapshots", "local", bytes(local))
    copies = [base, 0, 0, directory, 1, base, 2, 0, base, 3, 0, text, 12, 0]
    keep(corpus / "snapshots", "copies", bytes(copies))
    # The work directory, and in it a file, a lock and a directory.
    work = [directory, 18, text, 14, 0, text, 15, 0, directory, 17]
    keep(corpus / "snapshots", "left", bytes(chain + work))
    keep(corpus / "snapshots", "out", bytes([directory, 1, overlay, 2, 9, 0, link, 3, 9, link, 0, 7]))


def checksum_lists(corpus):
    digest, other = "8d" * 32, "5" * 128
    for name, text in [
        ("gnu", f"{digest}  disk.img\n{digest} *other.img\n\\{digest}  a\\\\b\n"),
        ("bsd", f"# comment\nSHA256 (disk.img) = {digest}\nSHA512 (./disk.img) = {other}\n"),
        ("bare", f"{digest}\r\n"),
        ("signed", f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{digest}  images/disk.img\n"),
    ]:
        keep(corpus / "checksum_list", name, text.encode())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    corpus = Path(sys.argv[1]).resolve()
    messages(corpus)
    snapshots(corpus)
    checksum_lists(corpus)
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        archives(corpus)


main()
