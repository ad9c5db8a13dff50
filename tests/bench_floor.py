"""The rows of tests/bench that hold quick calls against the least that they could take, in an empty datastore, in a
large one, and many at once. The least is a program that only parses the message, which is built here."""
import base64, os, statistics, subprocess, sys, time
from pathlib import Path

from benchlib import SET, Run, driver, image_to_prepare, message, note, row, seconds, wanted

NEEDS = {"cargo": "a Rust toolchain"}
HERE = Path(__file__).resolve().parent.parent
AT_ONCE = 15  # as many as oned starts


def rows(fs):
    floor(fs)
    one_fsync(fs)
    many_images(fs)
    at_once(fs)
    fs.empty(fs.base)
    fs.empty(fs.users)


def calls(fs):
    """What is prepared for each quick action, and its attributes."""
    raw = fs.users / "small.raw"
    raw.write_bytes(b"")
    os.truncate(raw, 1 << 30)
    source, with_image, with_snapshot = image_to_prepare(fs)

    return {
        "stat": (None, {"PATH": raw, "SIZE": ""}),
        "monitor": (None, None),
        "rm": (with_image, source),
        "snap_delete": (with_snapshot, {**source, "PERSISTENT": 1, "TARGET_SNAPSHOT": 0}),
    }


def parse_only():
    """The program that only parses the message, as the drivers are built."""
    build = ["cargo", "build", "--release", "--quiet", "--package", "one-protocol", "--example", "parse_only"]
    subprocess.run(build, cwd=HERE, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
    return target / "release/examples/parse_only"


def floor(fs):
    names = {action: f"{action}, against only parsing the message" for action in ("stat", "monitor", "rm", "snap_delete")}
    if not any(map(wanted, names.values())):
        return
    program = parse_only()
    for action, (prepare, attributes) in calls(fs).items():
        if not wanted(names[action]):
            continue
        note(f"- {names[action]}")
        stdin = SET.scratch / "floor"
        stdin.write_bytes(base64.b64encode(message(fs.base, attributes).encode()) + b"\n")
        ours, theirs = [], []
        for turn in range(SET.calls + 5):
            fs.empty(fs.base)
            if prepare:
                prepare()
            fs.flush()
            taken = driver(action, action, fs.base, attributes).seconds
            run = Run([program], stdin=stdin)
            if run.code:
                sys.exit("bench: parse_only failed")
            if turn >= 5 or SET.tiny:
                ours.append(taken)
                theirs.append(run.seconds)
        compared(names[action], ours, theirs, 1.5)
    fs.empty(fs.base)


def one_fsync(fs):
    name = "mkfs raw, against one fsync of file and directory"
    if not wanted(name):
        return
    note(f"- {name}")
    ours, theirs = [], []
    for _ in range(SET.calls):
        fs.flush()
        ours.append(driver("mkfs", "mkfs", fs.base, {"TYPE": 2, "FORMAT": "raw", "SIZE": 1024, "FS": ""}).seconds)
        fs.flush()
        start = time.perf_counter()
        file = os.open(fs.base / "floor", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.truncate(file, 1 << 30)
        os.fsync(file)
        os.close(file)
        directory = os.open(fs.base, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
        theirs.append(time.perf_counter() - start)
        fs.empty(fs.base)
    compared(name, ours, theirs, 1.5)


def many_images(fs):
    """Quick calls beside many images and snapshots, against the same calls in an empty datastore."""
    count = 100 if SET.tiny else 10_000
    names = {action: f"{action} beside 10,000 images" for action in ("stat", "monitor", "rm", "snap_delete")}
    fsck = "fsck of 10,000 images"
    if not any(map(wanted, [*names.values(), fsck])):
        return
    chosen = {action: call for action, call in calls(fs).items() if wanted(names[action])}

    def measured(action, prepare, attributes):
        taken = []
        for turn in range(SET.calls + 5):
            if prepare:
                prepare()
            fs.flush()
            once = driver(action, action, fs.base, attributes).seconds
            if turn >= 5 or SET.tiny:
                taken.append(once)
        return taken

    note(f"- {fsck}, and quick calls beside them")
    empty = {action: measured(action, *call) for action, call in chosen.items()}
    fs.empty(fs.base)
    for number in range(count):
        (fs.base / f"{number:032x}").write_bytes(b"image")
        if number % 10 == 0:
            snap = fs.base / f"{number:032x}.snap"
            snap.mkdir()
            for snapshot in "01":
                (snap / snapshot).write_bytes(b"image")
    for action, call in chosen.items():
        compared(names[action], measured(action, *call), empty[action], 1.1)
    if wanted(fsck):
        taken = []
        for _ in range(SET.runs):
            run = Run([SET.bin / "fsck", fs.base])
            if run.code:
                sys.exit(f"bench: fsck ended with {run.code}: {run.reply[-500:]} {run.error}")
            taken.append(run.seconds)
        median = statistics.median(taken)
        row(fsck, seconds(median), "", None, "≤ 2 s", median <= 2, {"ours": taken})
    fs.empty(fs.base)


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
