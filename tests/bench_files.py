"""The rows of tests/bench about local files: conversion, flattening, copies, decompression."""
import os, shutil

from benchlib import SET, converting, driver, same_content, source, tool, versus

FILE_SYSTEMS = ("ext4", "xfs")
NAME = "0123456789abcdef" * 2


def qemu_convert(fs, given, format):
    def act():
        tool("qemu-img", "convert", "-m", "8", "-W", "-O", format, fs.input(given), fs.out / "reference")
        return fs.out / "reference"
    return act


def gunzip(fs, then_qcow2=False):
    def act():
        raw, result = fs.out / "unpacked", fs.out / "unpacked"
        tool("gunzip", "-c", fs.input("disk.raw.gz"), stdout=raw)
        if then_qcow2:
            result = fs.out / "reference"
            tool("qemu-img", "convert", "-m", "8", "-W", "-O", "qcow2", raw, result)
        return result
    return act


class Chain:
    """An image with three snapshots. The files are hard links, so a used chain is quickly renewed."""

    def __init__(self, fs):
        self.fs, self.source = fs, fs.base / NAME
        self.masters = fs.root / "masters"

    def build(self):
        self.masters.mkdir()
        snap = self.folders()
        tool("cp", "--sparse=always", source("disk.qcow2"), self.source)
        for level in (1, 2, 3):
            overlay = snap / str(level)
            tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", f"{NAME}.snap/{level - 1}", "-F", "qcow2", overlay)
            pieces = max(1, SET.size // 32)
            writes = [x for i in range(pieces) for x in ("-c", f"write -q -P {level} {(i * 32 + level * 5) % SET.size}M 1M")]
            tool("qemu-io", "-f", "qcow2", *writes, overlay)
        for level, path in enumerate([self.source, snap / "1", snap / "2", snap / "3"]):
            os.link(path, self.masters / str(level))

    def folders(self):
        snap = self.fs.base / f"{NAME}.snap"
        snap.mkdir()
        (snap / f"{NAME}.snap").symlink_to(".")
        (snap / "0").symlink_to(self.source)
        return snap

    def renew(self):
        self.fs.empty(self.fs.base)
        if not self.masters.exists():
            self.build()
            return
        snap = self.folders()
        os.link(self.masters / "0", self.source)
        for level in ("1", "2", "3"):
            os.link(self.masters / level, snap / level)

    def flatten(self):
        driver("snap_flatten", "snap_flatten", self.fs.base,
               {"TYPE": 0, "SOURCE": self.source, "FORMAT": "qcow2", "SIZE": SET.size, "PERSISTENT": 1,
                "TARGET_SNAPSHOT": 2})
        return self.source

    def reference(self):
        out = self.fs.out / "reference"
        tool("qemu-img", "convert", "-m", "8", "-W", "-O", "qcow2", f"{self.source}.snap/2", out)
        return out


def rows(fs):
    limit = {"ext4": 1.1, "xfs": 0.05}[fs.kind]
    converting(fs, "disk.raw", "qcow2", qemu_convert(fs, "disk.raw", "qcow2"), limit)
    converting(fs, "disk.qcow2", "raw", qemu_convert(fs, "disk.qcow2", "raw"), limit)
    chain = Chain(fs)
    versus(f"flatten three levels, {fs.kind}", fs, limit, chain.renew, chain.flatten, chain.reference, same_content)
    shutil.rmtree(chain.masters, ignore_errors=True)

    def plain_cp():
        tool("cp", "--sparse=always", fs.input("disk.raw"), fs.out / "reference")
        return fs.out / "reference"
    converting(fs, "disk.raw", "raw", plain_cp, {"ext4": 1.1, "xfs": -0.05}[fs.kind])
    if fs.kind == "xfs":
        return  # what follows is decompression, whatever the file system
    converting(fs, "zlib.qcow2", "raw", qemu_convert(fs, "zlib.qcow2", "raw"), 0.6)
    converting(fs, "disk.raw.gz", "raw", gunzip(fs), 0.5)
    converting(fs, "disk.raw.gz", "qcow2", gunzip(fs, then_qcow2=True), 0.5)
