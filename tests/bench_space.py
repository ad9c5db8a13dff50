"""The rows of tests/bench about space: what a call needs on disk, beyond the image that it makes."""
import threading, time
from pathlib import Path

from bench_files import Chain
from benchlib import MIB, SET, driver, note, row, wanted


def rows(fs):
    def watched(name, act, staged=0):
        if not wanted(name):
            return
        note(f"- {name}")
        fs.flush()
        start, peak, busy = fs.used(), [0], threading.Event()

        def watch():
            while not busy.is_set():
                peak[0] = max(peak[0], fs.used() - start)
                time.sleep(0.002)
        thread = threading.Thread(target=watch)
        thread.start()
        path = act()
        busy.set()
        thread.join()
        fs.flush()
        final = path.stat().st_blocks * 512
        # One MiB for what the file system itself notes down (directories, extent trees).
        allowed = final * 1.01 + staged + MIB
        row(name, f"{peak[0] / MIB:.1f} MiB at most", f"image of {final / MIB:.1f} MiB", peak[0] / final,
            "≤ 1.01 ×" + (" + input" if staged else ""), peak[0] <= allowed)
        fs.empty(fs.base)

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
        watched(name, copying(given, format), staged)
    chain = Chain(fs)
    if wanted("space: flatten three levels"):
        chain.renew()
        watched("space: flatten three levels", chain.flatten)
