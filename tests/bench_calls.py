"""The rows of tests/bench about single calls: what the quick actions take, and how large the drivers are."""
import statistics

from benchlib import ACTIONS, MIB, SET, driver, image_to_prepare, note, row, seconds, tool, wanted


def rows(fs):
    sizes()
    latency(fs)


def latency(fs):
    raw, qcow2 = fs.users / "small.raw", fs.users / "small.qcow2"
    tool("qemu-img", "create", "-q", "-f", "raw", raw, "1G")
    tool("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1G")
    source, with_image, with_snapshot = image_to_prepare(fs.base)
    calls = {
        "stat of a raw file": ("stat", None, {"PATH": raw, "SIZE": ""}),
        "stat of a qcow2 file": ("stat", None, {"PATH": qcow2, "SIZE": ""}),
        "monitor": ("monitor", None, None),
        "mkfs raw": ("mkfs", None, {"TYPE": 2, "FORMAT": "raw", "SIZE": 1024, "FS": ""}),
        "rm": ("rm", with_image, source),
        "snap_delete": ("snap_delete", with_snapshot, {**source, "PERSISTENT": 1, "TARGET_SNAPSHOT": 0}),
    }
    for name, (action, prepare, attributes) in calls.items():
        if not wanted(name + ", per call"):
            continue
        note(f"- {name}")
        samples = []
        for turn in range(SET.calls + 5):
            fs.empty(fs.base)
            if prepare:
                prepare()
            fs.flush()  # a call pays for its own writes, not for making its input
            taken = driver(action, action, fs.base, attributes).seconds
            if turn >= 5:  # the first ones warm the caches
                samples.append(taken)
        samples.sort()
        median = statistics.median(samples)
        row(f"{name}, per call", seconds(median), "", None, "≤ 5 ms", median <= 0.005,
            {"ours": samples, "p95": samples[int(len(samples) * 0.95)]})
    fs.empty(fs.base)


def sizes():
    have = {action: (SET.bin / action).stat().st_size for action in ACTIONS}
    for action in ("rm", "monitor", "snap_delete"):
        if wanted(f"size of {action}"):
            row(f"size of {action}", f"{have[action] / MIB:.2f} MiB", "", None, "≤ 1.5 MiB", have[action] <= 1.5 * MIB)
    if wanted("size of all ten"):
        total = sum(have.values())
        row("size of all ten", f"{total / MIB:.2f} MiB", "", None, "≤ 16 MiB", total <= 16 * MIB)
