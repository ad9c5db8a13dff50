#!/usr/bin/env python3
"""Makes the first inputs of the fuzz targets: small sound files of every format, by the reference tools.

usage: common/disk-image/fuzz/seeds.py DIRECTORY
"""

import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

BLOCK = 64


def keep(directory, name, data):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)


def sparse(data):
    """The form of a sparse file that src/lib.rs reads: pieces that are not zero."""
    pieces = b""
    position = 0
    while position < len(data):
        if not any(data[position : position + BLOCK]):
            position += BLOCK
            continue
        end = position
        while end < len(data) and end - position < 4096 and any(data[end : end + BLOCK]):
            end += BLOCK
        piece = data[position:end]
        pieces += struct.pack("<IH", position, len(piece)) + piece
        position = end
    return pieces


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def image(work, name, kind, options, size="64k", backing=None, commands=()):
    path = work / name
    command = ["qemu-img", "create", "-q", "-u", "-f", kind]
    if options:
        command += ["-o", options]
    if backing:
        command += ["-F", "qcow2", "-b", backing]
    run(*command, str(path), size)
    for line in commands:
        run("qemu-io", "-f", kind, "-c", line, str(path))
    return path.read_bytes()


def qcow2(corpus, work):
    small = "cluster_size=512"
    writes = ["write -q -P 7 0 3k", "write -q -z 8k 4k", "write -q -P 9 40k 1k"]
    packed = ["write -q -c -P 7 1k 512", "write -q -c -P 8 9k 512"]
    shapes = {
        "v2": image(work, "v2", "qcow2", f"compat=0.10,{small}", commands=writes[:1]),
        "v3": image(work, "v3", "qcow2", small, commands=writes),
        "zlib": image(work, "zlib", "qcow2", small, commands=packed),
        "zstd": image(work, "zstd", "qcow2", f"compression_type=zstd,{small}", commands=packed),
        "bits": image(work, "bits", "qcow2", f"refcount_bits=1,{small}", size="1k"),
    }
    overlay = image(work, "overlay", "qcow2", small, backing="v3", commands=["write -q -P 1 2k 2k"])
    large = image(work, "large", "qcow2", "extended_l2=on,cluster_size=16k")
    for name, data in {**shapes, "overlay": overlay, "large": large}.items():
        keep(corpus / "qcow2_header", name, data[:1024])
        keep(corpus / "admit", name, sparse(data))
    for name, data in shapes.items():
        keep(corpus / "qcow2_map", name, struct.pack("<HH", len(data), 0) + data)
        chain = struct.pack("<HH", len(overlay), len(data)) + overlay + data
        keep(corpus / "qcow2_map", "on-" + name, chain)
    raw = struct.pack("<HH", len(overlay), 0) + overlay + b"raw" * 700
    keep(corpus / "qcow2_map", "on-raw", raw)


def foreign(corpus, work):
    kinds = [("vmdk", ""), ("vdi", ""), ("vhdx", "block_size=1M"), ("vpc", "")]
    for number, (kind, options) in enumerate(kinds):
        pieces = sparse(image(work, kind, kind, options, size="1M"))
        keep(corpus / "foreign", kind, bytes([number]) + pieces)
        keep(corpus / "admit", kind, pieces)
    luks = b"LUKS\xba\xbe\x00\x01" + bytes(96) + struct.pack(">I", 4096)
    keep(corpus / "foreign", "luks1", b"\x04" + sparse(luks.ljust(512, b"\1")))
    json = b'{"segments":{"0":{"offset":"16777216","size":"dynamic"}}}'
    second = b"LUKS\xba\xbe\x00\x02" + struct.pack(">Q", 16384)
    luks2 = second.ljust(4096, b"\0") + json.ljust(12288, b"\0")
    keep(corpus / "foreign", "luks2", b"\x04" + sparse(luks2))
    keep(corpus / "admit", "luks", sparse(luks2))
    for name, magic in {"gz": b"\x1f\x8b\x08", "xz": b"\xfd7zXZ\0", "qed": b"QED\0", "raw": b"\xeb\x3c"}.items():
        keep(corpus / "admit", name, sparse(magic.ljust(512, b"\1")))


def vmdk_stream(tables_first, compressed):
    """A disk of 10 grains of 4 KiB, tables of 4 grains; every third grain is a hole."""
    grain, entries, count = 8, 4, 10
    text = (
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
        f'createType="streamOptimized"\nRDONLY {grain * count} SPARSE "x"\n'
    )
    overhead = 7 if tables_first else 3

    def padded(data):
        return data + bytes(-len(data) % 512)

    def header(directory):
        start = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", 3, 0x30001 if compressed else 1, grain * count, grain,
                            1, 2, entries, 0, directory, overhead, 0, b"\n \r\n", compressed)
        return padded(start)

    def marker(sectors, kind):
        return padded(struct.pack("<QII", sectors, 0, kind))

    out = bytearray(bytes(512) + padded(text.encode()))
    out += bytes(overhead * 512 - len(out))
    places = [0] * 12
    for number in range(count):
        if number % 3 == 2:
            continue
        data = bytes([number + 1]) * (grain * 512)
        places[number] = len(out) // 512
        if compressed:
            packed = zlib.compress(data)
            data = struct.pack("<QI", number * grain, len(packed)) + packed
        out += padded(data)
    if tables_first:
        out[:512] = header(3)
        out[3 * 512 : 3 * 512 + 12] = struct.pack("<3I", 4, 5, 6)
        for table in range(3):
            at = (4 + table) * 512
            out[at : at + 16] = struct.pack("<4I", *places[table * 4 : table * 4 + 4])
        return bytes(out)
    out[:512] = header(2**64 - 1)
    tables = []
    for table in range(3):
        out += marker(1, 1)
        tables.append(len(out) // 512)
        out += padded(struct.pack("<4I", *places[table * 4 : table * 4 + 4]))
    out += marker(1, 2)
    directory = len(out) // 512
    out += padded(struct.pack("<3I", *tables)) + marker(1, 3) + header(directory) + bytes(512)
    return bytes(out)


def vmdk(corpus):
    for name, first, compressed in (("stream", False, 1), ("first", True, 1), ("sparse", True, 0)):
        keep(corpus / "vmdk_grains", name, vmdk_stream(first, compressed))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    corpus = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        qcow2(corpus, Path(work))
        foreign(corpus, Path(work))
        vmdk(corpus)


main()
