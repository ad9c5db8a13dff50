"""The rows of tests/bench about vmdk images."""
from bench_files import qemu_convert
from benchlib import converting


def rows(fs):
    for format in ("raw", "qcow2"):
        converting(fs, "stream.vmdk", format, qemu_convert(fs, "stream.vmdk", format), 0.5)
