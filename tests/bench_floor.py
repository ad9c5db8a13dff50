"""The rows of tests/bench that hold quick calls against the least that they could take, in an empty datastore, in a
large one, and many at once. The least is what one-protocol/examples/least.rs does, which is built here."""
import base64, os, shutil, statistics, subprocess, sys, time
from pathlib import Path

from benchlib import SET, Run, driver, image_to_prepare, in_memory, message, note, row, seconds, tool, wanted

NEEDS = {"cargo": "a Rust toolchain"}
HERE = Path(__file__).resolve().parent.parent
AT_ONCE = 15  # as many as oned starts


def rows(fs):
    floor(fs)
    many_images(fs)
    at_once(fs)
    fs.empty(fs.base)
    fs.empty(fs.users)


def calls(fs, base=None):
    """What is prepared for each quick action in a datastore, and its attributes."""
    raw = fs.users / "small.raw"
    raw.write_bytes(b"")
    os.truncate(raw, 1 << 30)
    source, with_image, with_snapshot = image_to_prepare(base or fs.base)

    return {
        "stat": (None, {"PATH": raw, "SIZE": ""}),
        "monitor": (None, None),
        "rm": (with_image, source),
        "snap_delete": (with_snapshot, {**source, "PERSISTENT": 1, "TARGET_SNAPSHOT": 0}),
    }


def least(base, xml_of, *arguments):
    """Seconds of the program that does the least for a message, which is built as the drivers are."""
    program = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target")) / "release/examples/least"
    if not least.built:
        build = ["cargo", "build", "--release", "--quiet", "--package", "one-protocol", "--example", "least"]
        subprocess.run(build, cwd=HERE, check=True)
        least.built = True
    stdin = SET.scratch / "floor"
    stdin.write_bytes(base64.b64encode(message(base, xml_of).encode()) + b"\n")
    return tool(program, *arguments, stdin=stdin)


least.built = False


def floor(fs):
    """Each quick action against only parsing its message; what waits for the disk also against the same wait, and in
    memory, where nothing waits."""
    new = fs.base / "floor"
    makes = {"TYPE": 2, "FORMAT": "raw", "SIZE": 1024, "FS": ""}
    chosen = {**calls(fs), "mkfs": (None, makes)}
    rows = [(f"{action}, against only parsing the message", action, []) for action in ("stat", "monitor", "rm", "snap_delete")]
    rows += [("mkfs raw, against one fsync of file and directory", "mkfs", ["make", new])]
    rows += [(f"{action}, against an unlink and one fsync of the directory", action, ["remove", new])
             for action in ("rm", "snap_delete")]
    for name, action, arguments in rows:
        if wanted(name):
            held_against_least(fs, name, action, fs.base, *chosen[action], arguments)
    for action in ("rm", "snap_delete"):
        name = f"{action} in memory, against only parsing the message"
        if wanted(name):
            with in_memory() as root:
                base = root / "datastore"
                base.mkdir()
                held_against_least(fs, name, action, base, *calls(fs, base)[action], [])
    fs.empty(fs.base)


def held_against_least(fs, name, action, base, prepare, attributes, arguments):
    note(f"- {name}")
    ours, theirs = [], []
    for turn in range(SET.calls + 5):
        fs.empty(base)
        if prepare:
            prepare()
        fs.flush()
        taken = driver(action, action, base, attributes).seconds
        fs.empty(base)
        if "remove" in arguments:
            arguments[-1].write_bytes(b"image")
        fs.flush()
        least_taken = least(base, attributes, *arguments)
        if turn >= 5 or SET.tiny:
            ours.append(taken)
            theirs.append(least_taken)
    compared(name, ours, theirs, 1.5)


def many_images(fs):
    """Quick calls beside many images and snapshots, against the same calls in an empty datastore."""
    count = 100 if SET.tiny else 10_000
    names = {action: f"{action} beside 10,000 images" for action in ("stat", "monitor", "rm", "snap_delete")}
    fsck = "fsck of 10,000 images"
    if not any(map(wanted, [*names.values(), fsck])):
        return
    chosen = [action for action in calls(fs) if wanted(names[action])]
    note(f"- {fsck}, and quick calls beside them")
    fs.empty(fs.base)
    full = fs.root / "full"
    full.mkdir()
    for number in range(count):
        (full / f"{number:032x}").write_bytes(b"image")
        if number % 10 == 0:
            snap = full / f"{number:032x}.snap"
            snap.mkdir()
            for snapshot in "01":
                (snap / snapshot).write_bytes(b"image")
    for action in chosen:
        taken = {fs.base: [], full: []}
        for turn in range(SET.calls + 5):
            for base, seconds_taken in taken.items():
                prepare, attributes = calls(fs, base)[action]
                if prepare:
                    prepare()
                fs.flush()
                once = driver(action, action, base, attributes).seconds
                if turn >= 5 or SET.tiny:
                    seconds_taken.append(once)
        compared(names[action], taken[full], taken[fs.base], 1.1)
    if wanted(fsck):
        taken = []
        for _ in range(SET.runs):
            run = Run([SET.bin / "fsck", full])
            if run.code:
                sys.exit(f"bench: fsck ended with {run.code}: {run.reply[-500:]} {run.error}")
            taken.append(run.seconds)
        median = statistics.median(taken)
        row(fsck, seconds(median), "", None, "≤ 2 s", median <= 2, {"ours": taken})
    fs.empty(fs.base)
    shutil.rmtree(full)


def at_once(fs):
    """As many calls as oned starts, all at once against one after the other."""
    for action in ("stat", "mkfs"):
        name = f"{AT_ONCE} calls of {action} at once"
        if not wanted(name):
            continue
        note(f"- {name}")
        attributes = {"TYPE": 2, "FORMAT": "raw", "SIZE": 1024, "FS": ""} if action == "mkfs" else calls(fs)[action][1]
        stdin = SET.scratch / "message"
        stdin.write_bytes(base64.b64encode(message(fs.base, attributes).encode()) + b"\n")
        environment = {"PATH": os.environ["PATH"], "ONE_LOCATION": str(fs.base.parent)}

        def start():
            with open(stdin, "rb") as file:
                return subprocess.Popen([SET.bin / action, "7"], stdin=file, stdout=subprocess.DEVNULL, env=environment)

        ours, theirs = [], []
        for _ in range(1 if SET.tiny else 20):
            for together, taken in ((True, ours), (False, theirs)):
                fs.empty(fs.base)
                fs.flush()
                began = time.perf_counter()
                if together:
                    codes = [child.wait() for child in [start() for _ in range(AT_ONCE)]]
                else:
                    codes = [start().wait() for _ in range(AT_ONCE)]
                taken.append(time.perf_counter() - began)
                if any(codes):
                    sys.exit(f"bench: {action} failed: {codes}")
        compared(name, ours, theirs, 1.1)


def compared(name, ours, theirs, limit):
    mine, other = statistics.median(ours), statistics.median(theirs)
    row(name, seconds(mine), seconds(other), mine / other, f"≤ {limit} ×", mine <= limit * other,
        {"ours": ours, "reference": theirs})
