"""The rows of tests/bench about archives and appliances that come by http."""
import tarfile, zipfile
from pathlib import Path

from bench_http import Nginx, quick, warm
from benchlib import MIB, PEAKS, SET, driver, inputs, note, row, same_content, source, tool, versus, wanted, watched

NEEDS = {"nginx": "nginx-light", "curl": "curl"}
OVF = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="file1" ovf:href="vm-disk1.vmdk"/></References>
  <DiskSection><Info>disks</Info>
    <Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="{size}" ovf:capacityAllocationUnits="byte * 2^20"/>
  </DiskSection>
</Envelope>
"""
APPLIANCE, ZIP = "appliance.ova", "appliance.zip"


def archive(name):
    """An appliance with one disk: as a tar archive, or as a zip archive whose members are compressed."""
    path, description = inputs() / name, SET.scratch / "vm.ovf"
    if path.exists():
        return path
    disk = source("stream.vmdk")
    note(f"  making {name}")
    description.write_text(OVF.format(size=SET.size))
    members = [(description, "vm.ovf"), (disk, "vm-disk1.vmdk")]
    if name == APPLIANCE:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for member in members:
                tar.add(*member)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for member in members:
                packed.write(*member)
    return path


def rows(fs):
    title, space, memory = f"http: {APPLIANCE} to qcow2, {fs.kind}", f"space: {APPLIANCE} by http", "archives: memory"
    stats = [f"http: stat of {name}" for name in (APPLIANCE, ZIP)]
    if any(map(wanted, [title, space, memory, *stats])):
        nginx = Nginx()
        try:
            appliances(fs, nginx, title, space)
            for name in (APPLIANCE, ZIP):
                if wanted(f"http: stat of {name}"):
                    archive(name)
                    quick(fs, nginx, name, 6, 40)
            if wanted(memory):
                peaks(fs, nginx, memory)
        finally:
            nginx.close()


def appliances(fs, nginx, title, space):
    """`cp` of an appliance by http, against what fetches, unpacks and converts it."""
    def ours():
        image = {"TYPE": 0, "PATH": nginx.url(APPLIANCE), "SIZE": SET.size}
        run = driver(f"cp of {APPLIANCE} by http", "cp", fs.base, image, {"DRIVER": "qcow2"})
        return Path(run.reply.rsplit(" ", 1)[0])

    def theirs():
        download, image = fs.out / "download", fs.out / "reference"
        tool("curl", "-sf", "-o", download, nginx.url(APPLIANCE))
        tool("tar", "-xf", download, "-C", fs.out)
        tool("qemu-img", "convert", "-m", "8", "-W", "-O", "qcow2", fs.out / "vm-disk1.vmdk", image)
        return image

    if wanted(title) or wanted(space):
        given = archive(APPLIANCE)
        versus(title, fs, 0.5, lambda: fs.empty(fs.base), ours, theirs, same_content, warm=lambda: warm(given))
        watched(space, fs, ours)


def peaks(fs, nginx, title):
    """The memory for archives and vmdk images, however they come."""
    image = source("stream.vmdk")
    packed = SET.scratch / "appliance.tar.gz"
    tool("gzip", "-1", "-c", archive(APPLIANCE), stdout=packed)
    calls = {
        "a local vmdk": image, "a local appliance": archive(APPLIANCE), "a local zip": archive(ZIP), "a local tar.gz": packed,
        "an appliance by http": nginx.url(APPLIANCE), "a zip by http": nginx.url(ZIP),
    }
    labels = []
    for what, path in calls.items():
        if not str(path).startswith("http"):
            copy = fs.users / Path(path).name
            tool("cp", "--sparse=always", path, copy)
            path = copy
        for action, template in (("stat", None), ("cp", {"DRIVER": "raw"}), ("cp", {"DRIVER": "qcow2"})):
            label = f"{action} of {what}" + (f" to {template['DRIVER']}" if template else "")
            driver(label, action, fs.base, {"TYPE": 0, "PATH": path, "SIZE": SET.size}, template)
            labels.append(label)
            fs.empty(fs.base)
    packed.unlink()
    for path in fs.users.glob("*.tar.gz"):
        path.unlink()
    peak, label = max((PEAKS[label], label) for label in labels)
    row(title, f"{peak / MIB:.1f} MiB ({label})", "", None, "≤ 64 MiB", peak <= 64 * MIB)
