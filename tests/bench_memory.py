"""The rows of tests/bench about memory: huge and hostile inputs. What every other row needed counts too."""
from benchlib import MIB, SET, driver, message, note, tool, wanted

NEEDS = {"bzip2": "bzip2", "zstd": "zstd", "xz": "xz-utils"}


def rows(fs):
    if not wanted("memory"):
        return
    note("- memory: huge and hostile inputs")
    users, base = fs.users, fs.base

    def call(label, action, path, template=None):
        run = driver(label, action, base, {"TYPE": 0, "PATH": path, "SIZE": ""}, template, may_refuse=True)
        note(f"  {label}: {run.peak / MIB:.1f} MiB, {run.reply[:60] or run.error[:120]}")
        fs.empty(base)

    tool("qemu-img", "create", "-q", "-f", "raw", users / "huge.raw", "8T")
    # Alone: this process has such a message in memory, too.
    driver("stat with a message of 10 MiB", "stat", base, alone=True,
           xml=message(base, {"PATH": users / "huge.raw", "SIZE": "", "NAME": "x" * (10 * MIB)}))
    call("stat raw of 8 TiB", "stat", users / "huge.raw")
    call("cp raw of 8 TiB to qcow2", "cp", users / "huge.raw", {"DRIVER": "qcow2"})
    most, zeros_size = (4, "16M") if SET.tiny else (1024, "300M")
    for cluster, size, writes in (("64k", "2T", 1024), ("2M", "8T", 128), ("512", "1G", 256)):
        image = users / f"huge-{cluster}.qcow2"
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, size)
        step = {"2T": 2 << 30, "8T": 64 << 30, "1G": 4 << 20}[size]
        tool("qemu-io", "-f", "qcow2", *(x for i in range(min(writes, most)) for x in ("-c", f"write -q {i * step} 64k")), image)
        call(f"stat qcow2 of {size}, clusters of {cluster}", "stat", image)
        call(f"cp qcow2 of {size}, clusters of {cluster} to raw", "cp", image, {"DRIVER": "raw"})
    zeros = users / "zeros.raw"
    tool("truncate", "-s", zeros_size, zeros)
    packers = {
        "gzip": ["gzip", "-c"], "bzip2": ["bzip2", "-c"], "zstd": ["zstd", "-q", "-c"], "xz": ["xz", "-1", "-c"],
        "zstd with a window of 1 GiB": ["zstd", "-q", "-c", "--ultra", "--long=30"],
        "xz with a dictionary of 256 MiB": ["xz", "-c", "--lzma2=dict=256MiB,mode=fast,mf=hc3"],
    }
    for label, packer in packers.items():
        packed = users / "zeros.packed"
        tool(*packer, zeros, stdout=packed)
        call(f"stat {label}", "stat", packed)
        call(f"cp {label} to qcow2", "cp", packed, {"DRIVER": "qcow2"})
    for path in users.glob("huge*"):
        path.unlink()
