"""The rows of tests/bench about the trash: deleting into it, listing it, and taking its space for a new image."""
import json, os, random, statistics, sys, time
from pathlib import Path

from benchlib import MIB, SET, Run, driver, image_to_prepare, note, row, seconds, wanted

TRASH = ".ferrostore-trash"
PIECE = 64 << 10  # bytes of each image whose space is needed
WEEK = 7 * 24 * 3600


def rows(fs):
    deleting(fs, "rm into the trash, with 200 snapshots, per call", 0)
    deleting(fs, "rm into the trash, beside 10,000 deleted images, per call", 100 if SET.tiny else 10_000)
    listing(fs)
    taking(fs)
    fs.empty(fs.base)
    fs.empty(fs.users)


def put(base, number, size):
    """An image in the trash, as `rm` leaves it."""
    name = f"{number:032x}"
    deleted = int(time.time() * 1000) - 10_000_000 + number
    entry = base / TRASH / f"{deleted}.{WEEK}.{size}.{name}"
    entry.mkdir(parents=True)
    (entry / f"1d.{name}").write_bytes(os.urandom(size))
    record = {"image": number, "name": f"image {number}", "owner": "oneadmin", "group": "oneadmin", "type": "OS",
              "format": "raw", "size_mib": 1, "source": f"{base}/{name}", "datastore": 100}
    (entry / "record").write_text(json.dumps(record) + "\n")


def deleting(fs, name, beside):
    if not wanted(name):
        return
    note(f"- {name}")
    fs.empty(fs.base)
    for number in range(beside):
        put(fs.base, number, 0)
    source, with_image, _ = image_to_prepare(fs.base)
    image, snap = source["SOURCE"], source["SOURCE"].with_suffix(".snap")
    samples = []
    for turn in range(SET.calls + 5):
        with_image()
        os.truncate(image, SET.size * MIB)
        snap.mkdir()
        for number in range(200):
            (snap / str(number)).write_bytes(b"snapshot")
        fs.flush()
        taken = driver("rm into the trash", "rm", fs.base, source, {"TRASH": "7d"}).seconds
        if turn >= 5 or SET.tiny:
            samples.append(taken)
    kept = len(list((fs.base / TRASH).iterdir()))
    if kept != beside + SET.calls + 5:
        sys.exit(f"bench: {name}: the trash holds {kept} images")
    fs.empty(fs.base)
    median = statistics.median(samples)
    row(name, seconds(median), "", None, "≤ 6 ms", median <= 0.006, {"ours": samples})


def listing(fs):
    name = "list of 10,000 deleted images"
    if not wanted(name):
        return
    note(f"- {name}")
    fs.empty(fs.base)
    count = 100 if SET.tiny else 10_000
    for number in range(count):
        put(fs.base, number, 0)
    samples = []
    for _ in range(SET.runs):
        out = SET.scratch / "list"
        run = Run([SET.bin / "ferrostore", "trash", "list", fs.base], stdout=out)
        if run.code or out.read_text().count("\n") != count:
            sys.exit(f"bench: {name}: {run.error}")
        samples.append(run.seconds)
    median = statistics.median(samples)
    row(name, seconds(median), "", None, "≤ 1 s", median <= 1, {"ours": samples})


def taking(fs):
    name = "cp that must free 1,000 of 10,000 deleted images"
    if not wanted(name):
        return
    note(f"- {name}")
    needed, count = (10, 100) if SET.tiny else (1000, 10_000)
    path = fs.users / "new.raw"
    path.write_bytes(random.Random(1).randbytes(needed * PIECE))
    samples = []
    for _ in range(SET.runs):
        fs.empty(fs.base)
        for number in range(count):
            put(fs.base, number, PIECE if number < needed * 3 // 2 else 0)
        fs.flush()
        fill(fs)
        taken = driver("cp that takes the trash", "cp", fs.base, {"TYPE": 0, "PATH": path, "SIZE": needed * PIECE // MIB + 1})
        samples.append(taken.seconds)
        freed = count - len(list((fs.base / TRASH).iterdir()))
        if not SET.tiny and not needed * 0.9 <= freed <= needed * 1.2:
            sys.exit(f"bench: {name}: {freed} were freed")
    median = statistics.median(samples)
    row(name, seconds(median), "", None, "≤ 1 s", median <= 1, {"ours": samples})


def fill(fs):
    """Takes all space but a little, that which is reserved for root too."""
    step, offset = 64 * MIB, 0
    with open(fs.base / "filler", "wb") as file:
        while step >= PIECE:
            try:
                os.posix_fallocate(file.fileno(), offset, step)
                offset += step
            except OSError:
                os.ftruncate(file.fileno(), offset)
                step //= 8
    fs.flush()
