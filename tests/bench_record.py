"""The rows of tests/bench about what is seen of calls: the record of each, and progress by way of oned."""
import base64, contextlib, os, statistics, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchlib import SET, Run, drop_caches, image_to_prepare, message, note, row, seconds, wanted

ANSWER = (b'<?xml version="1.0" encoding="UTF-8"?>\r\n<methodResponse><params><param><value><array><data>'
          b"<value><boolean>1</boolean></value><value><i4>7</i4></value><value><i4>0</i4></value>"
          b"</data></array></value></param></params></methodResponse>\r\n")


class Oned(BaseHTTPRequestHandler):
    """Says yes to everything, as oned does to an image that exists."""

    questions = 0

    def do_POST(self):
        Oned.questions += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def oned(var):
    """oned, and the environment by which drivers know it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Oned)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    session = var / "one_auth"
    session.write_text("oneadmin:bench\n")
    try:
        yield {"ONE_AUTH": str(session), "ONE_XMLRPC": f"http://127.0.0.1:{server.server_port}/RPC2"}
    finally:
        server.shutdown()


def rows(fs):
    var = fs.root / "var"
    (var / "remotes/etc/datastore").mkdir(parents=True)
    record(fs, var)
    progress(fs, var)


def call(fs, action, image=None, template=None, **environment):
    stdin = SET.scratch / "message"
    stdin.write_bytes(base64.b64encode(message(fs.base, image, template).encode()) + b"\n")
    environment = {"PATH": os.environ["PATH"], "ONE_LOCATION": str(fs.root), **environment}
    run = Run([SET.bin / action, "7"], stdin=stdin, env=environment)
    if run.code:
        raise SystemExit(f"bench: {action} failed ({run.code}): {run.error}")
    return run


def record(fs, var):
    """Quick calls with a record and without, in turn. oned could be asked, and is not."""
    conf, log = var / "remotes/etc/datastore/datastore.conf", var / "ferrostore.jsonl"
    source, with_image, _ = image_to_prepare(fs.base)
    calls = {
        "monitor": (None, None),
        "stat": (None, {"PATH": fs.input("disk.raw"), "SIZE": ""}),
        "rm": (with_image, source),
    }
    with oned(var) as known:
        for action, (prepare, image) in calls.items():
            name = f"the record of a call, more per {action}"
            if not wanted(name):
                continue
            note(f"- {name}")
            samples = {"ours": [], "reference": []}
            for turn in range(SET.calls + 5):
                for side, text, environment in (("ours", "CALL_LOG=yes\n", known), ("reference", "CALL_LOG=no\n", {})):
                    conf.write_text(text)
                    if prepare:
                        prepare()
                        fs.flush()
                    taken = call(fs, action, image, **environment).seconds
                    if turn >= 5:  # the first ones warm the caches
                        samples[side].append(taken)
            conf.unlink()
            lines = log.read_text().count("\n")
            log.unlink()
            if lines != SET.calls + 5:
                raise SystemExit(f"bench: {lines} calls are recorded")
            ours, reference = (statistics.median(samples[side]) for side in ("ours", "reference"))
            more = ours - reference
            row(name, f"{more * 1000:.3f} ms", seconds(reference), None, "≤ 0.2 ms", more <= 0.0002, samples)
    if Oned.questions:
        raise SystemExit(f"bench: oned was asked {Oned.questions} times by quick actions")


def progress(fs, var):
    """A large copy whose progress oned is told, and one that keeps it to itself; the best of each."""
    name = "raw copied with progress on, against off"
    if not wanted(name):
        return
    note(f"- {name}")
    image = {"TYPE": 0, "PATH": fs.input("disk.raw"), "SIZE": SET.size}
    samples = {"ours": [], "reference": []}
    with oned(var) as known:
        for _ in range(1 if SET.tiny else max(5, SET.runs)):
            for side, environment in (("ours", known), ("reference", {"ONE_AUTH": "/nonexistent"})):
                fs.empty(fs.base)
                fs.flush()
                drop_caches()
                run = call(fs, "cp", image, {"DRIVER": "qcow2"}, **environment)
                samples[side].append(run.seconds + fs.flush())
    fs.empty(fs.base)
    ours, reference = min(samples["ours"]), min(samples["reference"])
    row(name, seconds(ours), seconds(reference), ours / reference, "≤ 1.01 ×", ours <= 1.01 * reference, samples)
