"""The rows of tests/bench about space: what a call needs on disk, beyond the image that it makes."""
from pathlib import Path

from bench_files import Chain
from benchlib import SET, driver, wanted, watched


def rows(fs):
    def copying(given, format):
        def act():
            run = driver(f"cp {given} to {format}", "cp", fs.base,
                         {"TYPE": 0, "PATH": fs.input(given), "SIZE": SET.size}, {"DRIVER": format})
            return Path(run.reply.rsplit(" ", 1)[0])
        if wanted(f"space: {given} to {format}"):
            fs.input(given)
        return act

    for given, format in (("disk.raw", "qcow2"), ("disk.qcow2", "raw"), ("zlib.qcow2", "raw"),
                          ("disk.raw.gz", "raw"), ("disk.raw.gz", "qcow2"), ("disk.qcow2.gz", "raw")):
        name = f"space: {given} to {format}"
        staged = fs.input("disk.qcow2").stat().st_size if given == "disk.qcow2.gz" and wanted(name) else 0
        watched(name, fs, copying(given, format), staged)
    chain = Chain(fs)
    if wanted("space: flatten three levels"):
        chain.renew()
        watched("space: flatten three levels", fs, chain.flatten)
