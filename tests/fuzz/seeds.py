#!/usr/bin/env python3
"""Makes the first inputs of the fuzz targets: the canned messages, and scripts that make datastores.

usage: tests/fuzz/seeds.py DIRECTORY
"""

import sys
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


main()
