"""The rows of tests/bench about images that come by http, from an nginx on this machine."""
import hashlib, http.client, os, shutil, socket, statistics, subprocess, sys, time
from pathlib import Path

from benchlib import MIB, PEAKS, SET, driver, inputs, note, row, same_content, source, tool, versus, wanted

NEEDS = {"nginx": "nginx-light", "curl": "curl", "zstd": "zstd", "xz": "xz-utils"}
UNPACK = {".gz": ["gunzip", "-c"], ".xz": ["xz", "-d", "-c"], ".zst": ["zstd", "-q", "-d", "-c"]}


class Nginx:
    """A web server for the input images, from the page cache; it writes down every request."""

    def __init__(self):
        self.folder, self.files = SET.work / "nginx", inputs()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = self.folder / "access.log"
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "nginx.conf").write_text(
            f"daemon off; user root; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error.log;"
            "events { worker_connections 64; }"
            f"http {{ access_log {self.log}; sendfile on; tcp_nopush on; {temporary}"
            f"server {{ listen 127.0.0.1:{self.port}; root {self.files}; }} }}\n")
        self.process = subprocess.Popen(["nginx", "-p", self.folder, "-c", self.folder / "nginx.conf",
                                         "-e", self.folder / "error.log"])
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.02)
        sys.exit("bench: nginx does not start")

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/{name}"

    def requests(self):
        """How many requests came since this was asked the last time."""
        time.sleep(0.05)  # nginx logs a request after it has answered it
        count = len(self.log.read_text().splitlines())
        os.truncate(self.log, 0)
        return count

    def own_time(self, name):
        """Seconds that four small ranges of a file take on one connection."""
        length, start = (self.files / name).stat().st_size, time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for part in range(4):
            at = part * length // 5
            connection.request("GET", f"/{name}", headers={"Range": f"bytes={at}-{at + 65535}"})
            connection.getresponse().read()
        connection.close()
        return time.perf_counter() - start

    def close(self):
        self.process.terminate()
        self.process.wait()


def warm(path):
    """Into the page cache, so that the disk below the server is no part of the figures."""
    with open(path, "rb", buffering=0) as file:
        while file.read(8 * MIB):
            pass


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows(fs):
    """`cp` and `stat` by http: the time, the requests and the memory that they take."""
    names = ("disk.raw", "disk.raw.gz", "disk.raw.xz", "disk.raw.zst")
    stats = ("disk.qcow2", "disk.raw", "disk.raw.xz")
    large = "http: memory, xz with a dictionary of 64 MiB"
    titles = [f"http: {name} to qcow2, {fs.kind}" for name in names] + [f"http: stat of {name}" for name in stats] + [large]
    if not any(map(wanted, titles)):
        return
    nginx, counts = Nginx(), {}
    try:
        for name in names:
            downloads(fs, nginx, name, counts)
        if counts:
            row("http: requests of a good cp", f"{max(counts.values())} at most", "", None, "1",
                set(counts.values()) == {1})
        for name in stats:
            if wanted(f"http: stat of {name}"):
                source(name)
                quick(fs, nginx, name)
        if wanted(large):
            dictionary(fs, nginx)
    finally:
        nginx.close()


def downloads(fs, nginx, name, counts):
    title = f"http: {name} to qcow2, {fs.kind}"
    if not wanted(title):
        return
    given, suffix = source(name), Path(name).suffix
    # A checksum that oned would send along; for compressed files the issue is the decompressor.
    checksum = {"SHA256": digest(given)} if suffix == ".raw" else {}

    def ours():
        image = {"TYPE": 0, "PATH": nginx.url(name), "SIZE": SET.size}
        text = "".join(f"<{key}>{value}</{key}>" for key, value in checksum.items())
        run = driver(f"cp of {name} by http", "cp", fs.base, image, {"DRIVER": "qcow2"}, template_of_image=text)
        counts[name] = max(counts.get(name, 0), nginx.requests())
        return Path(run.reply.rsplit(" ", 1)[0])

    def theirs():
        download, image = fs.out / "download", fs.out / "reference"
        tool("curl", "-sf", "-o", download, nginx.url(name))
        if suffix == ".raw":
            tool("sha256sum", download, stdout=SET.scratch / "sum")
        else:
            tool(*UNPACK[suffix], download, stdout=fs.out / "unpacked")
            download = fs.out / "unpacked"
        tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", download, image)
        nginx.requests()
        return image

    versus(title, fs, 0.6, lambda: fs.empty(fs.base), ours, theirs, same_content, warm=lambda: warm(given))


def quick(fs, nginx, name, most_requests=4, most_milliseconds=30):
    """A row about the requests and the time that `stat` of a file takes over what the server takes itself."""
    note(f"- http: stat of {name}")
    warm(inputs() / name)
    nginx.requests()
    samples, most = [], 0
    for turn in range(min(SET.calls, 50) + 3):
        taken = driver("stat by http", "stat", fs.base, {"PATH": nginx.url(name), "SIZE": ""}).seconds
        most = max(most, nginx.requests())
        if turn >= 3:
            samples.append(taken)
    own = statistics.median(nginx.own_time(name) for _ in range(10))
    over = statistics.median(samples) - own
    row(f"http: stat of {name}", f"{over * 1000:.1f} ms, {most} request{'s' * (most != 1)}", f"server {own * 1000:.1f} ms", None,
        f"≤ {most_milliseconds} ms over the server, ≤ {most_requests} requests",
        over * 1000 <= most_milliseconds and most <= most_requests, {"ours": samples})


def dictionary(fs, nginx):
    # More than the dictionary holds is enough.
    packed, part = inputs() / "dictionary.xz", inputs() / "part.raw"
    if not packed.exists():
        tool("head", "-c", "256M", source("disk.raw"), stdout=part)
        tool("xz", "-c", "--lzma2=preset=1,dict=64MiB", part, stdout=packed)
    label = "cp of xz with a dictionary of 64 MiB by http"
    driver(label, "cp", fs.base, {"TYPE": 0, "PATH": nginx.url(packed.name), "SIZE": SET.size}, {"DRIVER": "qcow2"})
    peak = PEAKS.pop(label)  # it has a target of its own
    fs.empty(fs.base)
    row("http: memory, xz with a dictionary of 64 MiB", f"{peak / MIB:.1f} MiB", "", None, "≤ 160 MiB",
        peak <= 160 * MIB)
