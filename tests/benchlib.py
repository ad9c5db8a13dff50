"""What tests/bench measures with: processes, file systems on loop devices, input images, the table of rows."""
import argparse, base64, contextlib, ctypes, os, random, re, shutil, statistics, subprocess, sys, threading, time
from pathlib import Path

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
ACTIONS = "cp mkfs clone rm stat snap_revert snap_flatten snap_delete monitor export".split()
SET = argparse.Namespace()  # the options, and the folders `bin`, `work` and `scratch`


def note(text):
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------ processes

class OwnPeak:
    """Watches the peak memory of a process alone, which its end takes with it."""

    def __init__(self, pid):
        self.status, self.peak = Path(f"/proc/{pid}/status"), 0
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while True:
            try:
                found = re.search(r"VmHWM:\s+(\d+) kB", self.status.read_text())
            except OSError:
                return
            if not found:
                return
            self.peak = int(found[1]) * 1024
            time.sleep(0.002)

    def bytes(self):
        self.thread.join()
        return self.peak


class Run:
    """One finished process: seconds, exit code, peak memory in bytes, what it printed. The peak is that of its own or of
    a program that it started, whichever is higher; with `alone`, its own."""

    def __init__(self, argv, stdin="/dev/null", stdout=None, env=None, alone=False):
        out = stdout or SET.scratch / "stdout"
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, str(SET.scratch / "stderr"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        ]
        path = shutil.which(argv[0]) or argv[0]
        # A child's peak begins with its parent's: forget what this process once needed.
        Path("/proc/self/clear_refs").write_text("5")
        start = time.perf_counter()
        pid = os.posix_spawn(path, [str(a) for a in argv], env or os.environ, file_actions=actions)
        own = OwnPeak(pid) if alone else None
        _, status, usage = os.wait4(pid, 0)
        self.seconds = time.perf_counter() - start
        self.code = os.waitstatus_to_exitcode(status)
        self.peak = own.bytes() if own else usage.ru_maxrss * 1024
        self.reply = "" if stdout else Path(out).read_text().rstrip("\n")
        self.error = (SET.scratch / "stderr").read_text(errors="replace").strip()


def tool(*argv, **options):
    """A tool that must succeed; its seconds."""
    run = Run(argv, **options)
    if run.code:
        sys.exit(f"bench: {' '.join(map(str, argv))} failed: {run.error}")
    return run.seconds


PEAKS = {}  # kind of call -> peak memory, bytes


def message(base, image=None, template=None, template_of_image=""):
    element = lambda key, value: f"<{key}><![CDATA[{value}]]></{key}>"
    inside = lambda pairs: "".join(element(k, v) for k, v in (pairs or {}).items())
    head = (f"<IMAGE><ID>7</ID>{inside(image)}<TEMPLATE>{template_of_image}</TEMPLATE></IMAGE>"
            if image else "")
    settings = {"RESTRICTED_DIRS": "/", "SAFE_DIRS": base.parent / "users", **(template or {})}
    return (f"<DS_DRIVER_ACTION_DATA>{head}<DATASTORE><ID>100</ID><NAME>bench</NAME>"
            f"{element('DS_MAD', 'fs')}{element('TM_MAD', 'qcow2')}{element('BASE_PATH', base)}"
            f"<TYPE>0</TYPE><DISK_TYPE>0</DISK_TYPE><TEMPLATE>{inside(settings)}</TEMPLATE>"
            "</DATASTORE></DS_DRIVER_ACTION_DATA>")


def driver(label, action, base, image=None, template=None, may_refuse=False, xml=None, template_of_image="", alone=False):
    """Calls a driver as oned does. `label` is what its peak memory is filed under."""
    stdin = SET.scratch / "message"
    xml = xml or message(base, image, template, template_of_image)
    stdin.write_bytes(base64.b64encode(xml.encode()) + b"\n")
    run = Run([SET.bin / action, "7"], stdin=stdin, env={"PATH": os.environ["PATH"], "ONE_LOCATION": str(base.parent)},
              alone=alone)
    if run.code and not (may_refuse and run.code == 1):
        sys.exit(f"bench: {label}: {action} failed ({run.code}): {run.error}")
    PEAKS[label] = max(run.peak, PEAKS.get(label, 0))
    return run


def image_to_prepare(base):
    """An image of the datastore in `base`: its attributes, and what makes its file without and with snapshots."""
    image = base / ("0123456789abcdef" * 2)
    snap = image.with_suffix(".snap")

    def with_image():
        image.write_bytes(b"image")

    def with_snapshot():
        with_image()
        snap.mkdir(exist_ok=True)
        (snap / "0").write_bytes(b"image")
        (snap / "1").write_bytes(b"image")

    return {"TYPE": 0, "SOURCE": image, "FORMAT": "raw", "SIZE": 1}, with_image, with_snapshot


# ------------------------------------------------------------------ file systems and inputs

@contextlib.contextmanager
def in_memory():
    """A directory whose files are in memory only."""
    root = SET.work / "memory"
    root.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=90%", "bench", root)
    try:
        yield root
    finally:
        tool("umount", root)
        root.rmdir()


class FileSystem:
    """A file system in a file on the real disk, with users' images and a datastore in it."""

    def __init__(self, kind, megabytes):
        self.kind, self.image, self.root = kind, SET.work / f"{kind}.img", SET.work / kind
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(megabytes * MIB)
        make = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]}
        tool(*make[kind], self.image)
        attach = ["losetup", "--find", "--show", self.image]
        run = Run([*attach, "--direct-io=on"])  # no second cache below the file system
        self.device = (run if run.code == 0 else Run(attach)).reply
        tool("mount", self.device, self.root)
        self.users, self.base, self.out = self.root / "users", self.root / "datastore", self.root / "out"
        for folder in (self.users, self.base, self.out):
            folder.mkdir()
        self.handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)

    def flush(self):
        """Seconds until all that was written is on disk."""
        start = time.perf_counter()
        if LIBC.syncfs(self.handle):
            sys.exit(f"bench: syncfs failed: {os.strerror(ctypes.get_errno())}")
        return time.perf_counter() - start

    def used(self):
        now = os.statvfs(self.root)
        return (now.f_blocks - now.f_bfree) * now.f_frsize

    def input(self, name):
        path = self.users / name
        if not path.exists():
            tool("cp", "--sparse=always", source(name), path)
        return path

    def empty(self, folder):
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close(self):
        os.close(self.handle)
        subprocess.run(["umount", self.root], check=False)
        subprocess.run(["losetup", "--detach", self.device], check=False)
        self.image.unlink()
        self.root.rmdir()


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def inputs():
    """The folder of the input images of this size."""
    folder = SET.work / f"inputs-{SET.size}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def source(name):
    """An input image, made on first use. The disk is half data, in runs of 64 KiB to 8 MiB that
    alternate with holes of the like; half of the data can't be compressed, half to the half."""
    path, size = inputs() / name, SET.size * MIB
    if path.exists():
        return path
    note(f"  making {name}")
    if name == "disk.raw":
        dice, offset = random.Random(1), 0
        pieces = [random.randbytes(32 << 10).hex().encode() for _ in range(64)]
        with open(path, "wb") as file:
            file.truncate(size)
            while offset < size:
                length = min(size - offset, int(2 ** dice.uniform(16, 23)) & ~0xFFF)
                file.seek(offset)
                left = length
                while left > 0:
                    chunk = random.randbytes(64 << 10) + dice.choice(pieces)
                    file.write(chunk[:left])
                    left -= len(chunk)
                offset += length * 2
    elif name == "disk.qcow2":
        tool("qemu-img", "convert", "-O", "qcow2", source("disk.raw"), path)
    elif name == "zlib.qcow2":
        tool("qemu-img", "convert", "-c", "-m", "8", "-W", "-O", "qcow2", source("disk.raw"), path)
    elif name == "stream.vmdk":
        tool("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", source("disk.raw"), path)
    elif name.endswith(".gz"):
        tool("gzip", "-c", source(name[:-3]), stdout=path)
    elif name.endswith(".xz"):
        # The blocks and the dictionary of `xz -T0`, made in a fraction of its time.
        tool("xz", "-c", "-T0", "--lzma2=preset=1,dict=8MiB", "--block-size=24MiB", source(name[:-3]), stdout=path)
    elif name.endswith(".zst"):
        tool("zstd", "-q", "-c", source(name[:-4]), stdout=path)
    return path


# ------------------------------------------------------------------ the table

ROWS = []


def row(name, ours, reference, ratio, target, passed, samples=None):
    """A line of the table. With --tiny, `passed` says nothing: only that the row was measured."""
    ROWS.append(dict(name=name, ours=ours, reference=reference, ratio=ratio, target=target,
                     passed=bool(passed), samples=samples or {}))
    note(f"  {name}: {ours} against {reference or 'the target'}: {verdict(ROWS[-1])}")


def verdict(measured):
    return "ran" if SET.tiny else "PASS" if measured["passed"] else "FAIL"


def wanted(name):
    return not SET.only or any(re.search(only, name, re.I) for only in SET.only)


def seconds(value):
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def load_programs():
    """On a machine that has work to do they are in memory: what is cold is the data."""
    for program in [SET.bin / "cp", SET.bin / "snap_flatten", "cp", "qemu-img", "gunzip"]:
        tool(program, "--version")


def versus(name, fs, limit, prepare, ours, theirs, verify, warm=None):
    """Alternates both sides, cold (but for the programs, and what `warm` reads), and compares their medians.
    `limit`: ratio, or seconds if it is negative. `ours` returns the path of the new image, `theirs` the path of its
    like, and verify(ours, theirs) ends the program if they differ."""
    if not wanted(name):
        return
    note(f"- {name}")
    samples = {"ours": [], "reference": []}
    for turn in range(SET.runs):
        results = {}
        for side, act in (("ours", ours), ("reference", theirs)):
            prepare()
            fs.flush()
            drop_caches()
            load_programs()
            if warm:
                warm()
            start = time.perf_counter()
            results[side] = act()
            fs.flush()
            samples[side].append(time.perf_counter() - start)
            if turn == 0 and side == "ours" and verify:
                kept = fs.out / "kept"
                os.link(results[side], kept)
        if turn == 0 and verify:
            # The datastore holds what is under test; the reference is what qemu-img makes.
            verify(kept, results["reference"])
            kept.unlink()
        fs.empty(fs.out)
        fs.empty(fs.base)
    mine, other = (statistics.median(samples[side]) for side in ("ours", "reference"))
    if limit > 0:
        row(name, seconds(mine), seconds(other), mine / other, f"≤ {limit} ×", mine <= limit * other, samples)
    else:
        row(name, seconds(mine), seconds(other), mine / other, f"≤ {-limit * 1000:.0f} ms", mine <= -limit, samples)


def same_content(kept, reference):
    tool("qemu-img", "compare", "-U", kept, reference)
    if Run(["qemu-img", "info", kept]).reply.find("file format: qcow2") >= 0:
        tool("qemu-img", "check", kept)


def converting(fs, given, format, theirs, limit):
    """A row in which `cp` registers a file in another form."""
    def ours():
        run = driver(f"cp {given} to {format}", "cp", fs.base,
                     {"TYPE": 0, "PATH": fs.input(given), "SIZE": SET.size}, {"DRIVER": format})
        path, said = run.reply.rsplit(" ", 1)
        if said != format:
            sys.exit(f"bench: cp of {given} replied {run.reply}")
        return Path(path)

    def prepare():
        fs.input(given)
        fs.empty(fs.base)
    versus(f"{given} to {format}, {fs.kind}", fs, limit, prepare, ours, theirs, same_content)


def watched(name, fs, act, staged=0):
    """A row about the space that act() takes while it makes an image, beyond that image and `staged` bytes."""
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
