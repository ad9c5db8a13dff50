"""The rows of tests/bench about a Ceph datastore, on a cluster of one OSD in memory (tests/ceph/cluster).

qemu-img must have been built with RBD (qemu-block-extra on Debian) for the rows that compare with it; QEMU_IMG names another
one, and QEMU_MODULE_DIR the folder of its modules."""
import json, os, random, statistics, subprocess, sys, time
from pathlib import Path

from benchlib import MIB, SET, Run, driver, drop_caches, load_programs, note, row, seconds, source, tool, wanted
from bench_http import Nginx, warm

NEEDS = {"ceph-osd": "ceph-osd", "ceph-mon": "ceph-mon", "ceph-mgr": "ceph-mgr", "rbd": "ceph-common",
         "nginx": "nginx-light", "curl": "curl", "gzip": "gzip"}
RECIPE = Path(__file__).resolve().parent / "ceph/cluster"
QEMU_IMG = os.environ.get("QEMU_IMG", "qemu-img")
SPARSE = 64 << 30
WHOLE = 16 if SET.tiny else 1024  # MiB
PIECES = 4 if SET.tiny else 150


class Cluster:
    """The cluster, and calls of drivers and tools for it."""

    def __init__(self):
        self.folder = Path(f"/dev/shm/ferrostore-bench-ceph.{os.getpid()}")
        self.conf = self.folder / "ceph.conf"
        environment = {**os.environ, "PORT": str(17000 + os.getpid() % 8000)}
        for words in (["up", self.folder], ["guard", self.folder, str(os.getpid())]):
            subprocess.run([RECIPE, *words], check=True, env=environment)

    def close(self):
        subprocess.run([RECIPE, "down", self.folder], check=True)

    def rbd(self, *words):
        return tool("rbd", "--conf", self.conf, *words)

    def driver(self, label, action, base, image):
        element = lambda key, value: f"<{key}><![CDATA[{value}]]></{key}>"
        inside = lambda pairs: "".join(element(key, value) for key, value in pairs.items())
        template = {"POOL_NAME": "one", "CEPH_CONF": self.conf, "RESTRICTED_DIRS": "/", "SAFE_DIRS": base.parent / "users"}
        xml = (f"<DS_DRIVER_ACTION_DATA><IMAGE><ID>7</ID>{inside(image)}</IMAGE><DATASTORE><ID>100</ID><NAME>bench</NAME>"
               f"<DS_MAD>ceph</DS_MAD><TM_MAD>ceph</TM_MAD>{element('BASE_PATH', base)}<TYPE>0</TYPE>"
               f"<TEMPLATE>{inside(template)}</TEMPLATE></DATASTORE></DS_DRIVER_ACTION_DATA>")
        # `rbd` needs more than the driver does, and is not what is measured.
        return driver(f"ceph: {label}", action, base, xml=xml, alone=True)

    def stored(self):
        """Bytes that the pool's objects take, to the block (`rbd du` counts whole objects), once that is at rest."""
        seen = []
        while len(seen) < 6 or len(set(seen[-6:])) > 1:
            pools = json.loads(Run(["ceph", "--conf", self.conf, "df", "detail", "--format", "json"]).reply)["pools"]
            seen += [pool["stats"]["stored"] for pool in pools if pool["name"] == "one"]
            time.sleep(1)
        return seen[-1]

    def remove(self, name="one-7"):
        Run(["rbd", "--conf", self.conf, "rm", "--no-progress", f"one/{name}"])


def reads_rbd(cluster):
    """Whether this qemu-img can be compared with."""
    said = Run([QEMU_IMG, "info", f"rbd:one/none:conf={cluster.conf}"]).error
    return "nknown protocol" not in said and "Unable to load module" not in said


def compare(cluster, title, limit, ours, theirs, verify=None, cold=True):
    """Alternates both sides and compares their medians; a negative limit is in seconds."""
    if not wanted(title):
        return
    note(f"- {title}")
    samples = {"ours": [], "reference": []}
    for turn in range(SET.runs if cold else max(SET.runs, min(SET.calls, 7))):
        for side, act in (("ours", ours), ("reference", theirs)):
            if act is None:
                continue
            if cold:
                drop_caches()
                load_programs()
                # The library of Ceph as well: a reference that needs an image to write to has just used it.
                cluster.rbd("create", "--size", "1M", "one/loads")
                cluster.remove("loads")
            samples[side].append(act())
            if verify and turn == 0:
                verify(side)
            cluster.remove()
    mine = statistics.median(samples["ours"])
    if limit < 0:
        row(title, seconds(mine), "", None, f"≤ {-limit} s", mine <= -limit, samples)
        return
    other = statistics.median(samples["reference"])
    row(title, seconds(mine), seconds(other), mine / other, f"≤ {limit} ×", mine <= limit * other, samples)


def content(cluster, name):
    export = subprocess.Popen(["rbd", "--conf", cluster.conf, "export", "--no-progress", f"one/{name}", "-"],
                              stdout=subprocess.PIPE)
    digest = subprocess.run(["md5sum"], stdin=export.stdout, capture_output=True, check=True, text=True).stdout[:32]
    if export.wait():
        sys.exit("bench: rbd export failed")
    return digest


def disk(fs, form):
    """A disk of 1 GiB with 300 MiB of data in 150 pieces."""
    path = fs.users / f"ceph.{form}"
    if not path.exists() and form == "raw":
        with open(path, "wb") as file:
            file.truncate(WHOLE * MIB)
            for number in range(PIECES):
                file.seek(number * WHOLE * MIB // PIECES & ~0xFFF)
                file.write(random.randbytes(MIB) + random.randbytes(MIB // 2).hex().encode())
    elif not path.exists():
        tool("qemu-img", "convert", "-c", "-m", "8", "-W", "-O", "qcow2", disk(fs, "raw"), path)
    return path


def copies(cluster, fs):
    """`cp` of local files, against one program that writes into the pool, and against all of stock's."""
    sum_of = lambda path: Run(["md5sum", path]).reply[:32]
    expected = sum_of(disk(fs, "raw"))

    def same(_):
        if content(cluster, "one-7") != expected:
            sys.exit("bench: the image differs")
    for name, form in (("raw", "raw"), ("zlib qcow2", "qcow2")):
        path = disk(fs, form)

        def ours():
            image = {"TYPE": 0, "PATH": path, "SIZE": WHOLE}
            return cluster.driver(f"cp {name}", "cp", fs.base, image).seconds

        def convert():
            cluster.rbd("create", "--size", f"{WHOLE}M", "one/one-7")
            return tool(QEMU_IMG, "convert", "-n", "-W", "-m", "8", "-f", form, "-O", "raw", path,
                        f"rbd:one/one-7:conf={cluster.conf}")

        def stock():
            start = time.perf_counter()
            staged, raw = fs.out / "staged", fs.out / "staged.raw"
            tool("dd", f"if={path}", f"of={staged}", "bs=64k")
            if form != "raw":
                tool("qemu-img", "convert", "-f", form, "-O", "raw", staged, raw)
                raw.rename(staged)
            cluster.rbd("import", "--no-progress", staged, "one/one-7")
            taken = time.perf_counter() - start
            staged.unlink()
            return taken
        if reads_rbd(cluster):
            compare(cluster, f"ceph: {name} to RBD, against qemu-img -n -W -m 8", 1.1, ours, convert, same)
        elif wanted("ceph: qemu-img"):
            note(f"- {QEMU_IMG} has no RBD: no comparison of {name} with it")
        compare(cluster, f"ceph: {name} to RBD, against stock's programs", 0.35, ours, stock, same)
    stored(cluster, fs)


def stored(cluster, fs):
    title = "ceph: bytes stored of a raw disk"
    if not wanted(title):
        return
    before = cluster.stored()
    cluster.driver("cp raw", "cp", fs.base, {"TYPE": 0, "PATH": disk(fs, "raw"), "SIZE": WHOLE})
    mine = cluster.stored() - before
    data = disk(fs, "raw").stat().st_blocks * 512
    row(title, f"{mine / MIB:.1f} MiB", f"{data / MIB:.1f} MiB of data", mine / data, "≤ 1.01 ×", mine <= 1.01 * data)
    cluster.remove()


def sparse(cluster, fs):
    path = fs.users / "sparse.raw"
    with open(path, "wb") as file:
        file.truncate(SPARSE)
        file.seek(SPARSE // 2)
        file.write(random.randbytes(10 * MIB))
    image = {"TYPE": 0, "PATH": path, "SIZE": SPARSE >> 20}
    compare(cluster, "ceph: 64 GiB sparse, 10 MiB data, to RBD", -2,
            lambda: cluster.driver("cp of a sparse disk", "cp", fs.base, image).seconds, None)
    path.unlink()


def download(cluster, fs):
    title = "ceph: http disk.raw.gz to RBD, against curl, gunzip, rbd import"
    if not wanted(title):
        return
    given, nginx = source("disk.raw.gz"), Nginx()

    def ours():
        warm(given)
        image = {"TYPE": 0, "PATH": nginx.url("disk.raw.gz"), "SIZE": SET.size}
        return cluster.driver("cp of disk.raw.gz by http", "cp", fs.base, image).seconds

    def theirs():
        warm(given)
        start = time.perf_counter()
        packed, raw = fs.out / "disk.gz", fs.out / "disk"
        tool("curl", "-sf", "-o", packed, nginx.url("disk.raw.gz"))
        tool("gunzip", "-c", packed, stdout=raw)
        cluster.rbd("import", "--no-progress", raw, "one/one-7")
        taken = time.perf_counter() - start
        fs.empty(fs.out)
        return taken
    try:
        compare(cluster, title, 0.5, ours, theirs)
    finally:
        nginx.close()


def quick(cluster, fs):
    """Quick actions, against the programs that they need, called by hand."""
    spec = {"SOURCE": "one/one-7", "TYPE": 0, "FORMAT": "raw"}

    def mkfs():
        return cluster.driver("mkfs", "mkfs", fs.base, {"TYPE": 2, "SIZE": 64, "FORMAT": "raw"}).seconds

    def mkfs_by_hand():
        return (cluster.rbd("ls", "one") + cluster.rbd("create", "--size", "64M", "one/one-8")
                + cluster.rbd("rename", "one/one-8", "one/one-7"))
    compare(cluster, "ceph: mkfs", 1.2, mkfs, mkfs_by_hand, cold=False)

    def rm():
        cluster.rbd("create", "--size", "64M", "one/one-7")
        return cluster.driver("rm", "rm", fs.base, {**spec, "SIZE": 64}).seconds

    def rm_by_hand():
        cluster.rbd("create", "--size", "64M", "one/one-7")
        return cluster.rbd("ls", "one") + cluster.rbd("rm", "--no-progress", "one/one-7")
    compare(cluster, "ceph: rm", 1.2, rm, rm_by_hand, cold=False)

    def snapshot():
        cluster.rbd("create", "--size", "64M", "one/one-7")
        cluster.rbd("snap", "create", "--no-progress", "one/one-7@0")
        cluster.rbd("snap", "protect", "one/one-7@0")

    def delete():
        snapshot()
        return cluster.driver("snap_delete", "snap_delete", fs.base, {**spec, "TARGET_SNAPSHOT": 0}).seconds

    def delete_by_hand():
        snapshot()
        return cluster.rbd("snap", "unprotect", "one/one-7@0") + cluster.rbd("snap", "rm", "--no-progress", "one/one-7@0")
    compare(cluster, "ceph: snap_delete", 1.2, delete, delete_by_hand, cold=False)


def rows(fs):
    if SET.only and not any("ceph" in only.lower() or wanted("ceph: " + only) for only in SET.only):
        return
    cluster = Cluster()
    try:
        copies(cluster, fs)
        sparse(cluster, fs)
        download(cluster, fs)
        quick(cluster, fs)
    finally:
        cluster.close()
