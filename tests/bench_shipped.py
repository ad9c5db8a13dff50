"""The rows of tests/bench that hold the executables of packages (packaging/compile), in the folder of --shipped, against
those of --bin. All files are in memory: what differs is the executables."""
import statistics
from pathlib import Path

from benchlib import ACTIONS, MIB, SET, driver, in_memory, note, row, seconds, source, tool, wanted

LIMIT = 1.03


def rows(fs):
    if not SET.shipped and not SET.tiny:
        note("- bench_shipped.py is left out: --shipped DIR names the executables that packaging/compile has made")
        return
    sizes()
    with in_memory() as root:
        calls(root)


def shipped():
    """With --tiny alone, the same ones take both sides: the rows run."""
    return SET.shipped or SET.bin


def sizes():
    name = "size of all ten, shipped against native"
    if wanted(name):
        ours, theirs = (sum((folder / action).stat().st_size for action in ACTIONS) for folder in (shipped(), SET.bin))
        row(name, f"{ours / MIB:.2f} MiB", f"{theirs / MIB:.2f} MiB", ours / theirs, f"≤ {LIMIT} ×", ours <= LIMIT * theirs)


def calls(root):
    base, users = root / "datastore", root / "users"
    base.mkdir()
    users.mkdir()
    images = ("disk.raw", "disk.qcow2", "zlib.qcow2")
    timed = {  # name: action, image, DRIVER, turns
        "cp of disk.raw to raw, shipped against native": ("cp", "disk.raw", "raw", SET.runs * 15),
        "cp of zlib.qcow2 to raw, shipped against native": ("cp", "zlib.qcow2", "raw", SET.runs * 15),
        "stat of a raw file, shipped against native": ("stat", "disk.raw", None, SET.calls * 5),
        "stat of a qcow2 file, shipped against native": ("stat", "disk.qcow2", None, SET.calls * 5),
    }
    for image in images:
        if any(wanted(name) and call[1] == image for name, call in timed.items()):
            tool("cp", "--sparse=always", source(image), users / image)
    for name, (action, image, format, turns) in timed.items():
        if wanted(name):
            note(f"- {name}")
            compared(name, base, action, users / image, format, 1 if SET.tiny else turns)


def compared(name, base, action, image, format, turns):
    native, samples = SET.bin, {"ours": [], "reference": []}
    sides = [("ours", shipped()), ("reference", native)]
    try:
        for turn in range(turns + 1):
            for side, SET.bin in sides:
                run = driver(f"{action} {image.name}, {side}", action, base,
                             {"TYPE": 0, "PATH": image, "SIZE": SET.size}, {"DRIVER": format} if format else None)
                if turn > 0 or SET.tiny:  # the first ones load the programs
                    samples[side].append(run.seconds)
                if action == "cp":
                    Path(run.reply.rsplit(" ", 1)[0]).unlink()
            sides.reverse()  # so that neither always comes first
    finally:
        SET.bin = native
    ours, theirs = (statistics.median(samples[side]) for side in ("ours", "reference"))
    row(name, seconds(ours), seconds(theirs), ours / theirs, f"≤ {LIMIT} ×", ours <= LIMIT * theirs, samples)
