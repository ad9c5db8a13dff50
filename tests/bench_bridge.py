"""The rows of tests/bench about bridge hosts: an sshd on this machine, reached through a relay that counts."""
import os, random, shutil, socket, statistics, subprocess, sys, threading, time
from pathlib import Path

from benchlib import MIB, SET, driver, note, row, tool, wanted

NEEDS = {"/usr/sbin/sshd": "openssh-server", "ssh": "openssh-client"}


class Relay:
    """Passes connections on, and counts the bytes of both directions."""

    def __init__(self, port):
        self.count, self.target = 0, port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            ours, _ = self.listener.accept()
            try:
                theirs = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # sshd is not up yet
                ours.close()
                continue
            for end in (ours, theirs):
                # As ssh and sshd do: else a second small packet waits 40 ms for the first to be acknowledged.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for a, b in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    def pump(self, source, target):
        try:
            while data := source.recv(1 << 18):
                self.count += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Bridge:
    """`bench-host`, and `bench-shared` by one connection for all; with the drivers where OpenNebula puts them."""

    def __init__(self, fs):
        self.folder = SET.work / "bridge"
        shutil.rmtree(self.folder, ignore_errors=True)
        ssh = self.folder / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        # ssh and sshd find keys by the password file: from here on this process has an /etc of its own. The whole
        # folder, since a file that another program replaces would lose what is mounted on it.
        etc = self.folder / "etc"
        etc.mkdir()
        (etc / "passwd").write_text(f"root:x:0:0:root:{self.folder}:/bin/sh\n"
                                    "sshd:x:65533:65534::/nonexistent:/usr/sbin/nologin\n")
        (etc / "shadow").write_text("root:*:19000:0:99999:7:::\n")
        tool("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={etc}:/etc", "/etc")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("id_ed25519", "host_key"):
            tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / name)
        shutil.copy(ssh / "id_ed25519.pub", ssh / "authorized_keys")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.log = self.folder / "sshd.log"
        (ssh / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {ssh}/host_key\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {ssh}/authorized_keys\nPasswordAuthentication no\nUseDNS no\nLogLevel VERBOSE\n")
        self.sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", ssh / "sshd_config", "-E", self.log])
        self.relay = Relay(port)
        (ssh / "config").write_text(
            f"Host bench-*\n  HostName 127.0.0.1\n  Port {self.relay.port}\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
            f"Host bench-shared\n  ControlMaster auto\n  ControlPath {self.folder}/socket\n  ControlPersist 60\n")
        drivers = self.folder / "remotes" / "datastore" / "fs"
        drivers.mkdir(parents=True)
        for action in ("cp", "mkfs", "monitor"):
            shutil.copy(SET.bin / action, drivers)
        (fs.root / "etc").mkdir(exist_ok=True)
        (fs.root / "etc" / "oned.conf").write_text(f"SCRIPTS_REMOTE_DIR={self.folder}/remotes\n")
        for _ in range(100):
            if subprocess.run(["ssh", "bench-host", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.05)
        sys.exit("bench: sshd does not serve")

    def connections(self):
        return self.log.read_text().count("Accepted publickey")

    def close(self):
        subprocess.run(["ssh", "-O", "exit", "bench-shared"], stderr=subprocess.DEVNULL, check=False)
        self.sshd.terminate()
        self.sshd.wait()
        tool("umount", "/etc")


def rows(fs):
    """What a bridge host adds to an action, and what goes over the wire."""
    titles = ["bridge: monitor", "bridge: mkfs", "bridge: monitor, multiplexed", "bridge: mkfs, multiplexed",
              "bridge: wire of a sparse cp"]
    if not any(map(wanted, titles)):
        return
    bridge = Bridge(fs)
    try:
        for host, suffix in (("bench-host", ""), ("bench-shared", ", multiplexed")):
            for action in ("monitor", "mkfs"):
                if wanted(f"bridge: {action}{suffix}"):
                    quick(fs, bridge, host, action, suffix)
        if wanted(titles[-1]):
            wire(fs, bridge)
    finally:
        bridge.close()


def quick(fs, bridge, host, action, suffix):
    note(f"- bridge: {action}{suffix}")
    image = {"mkfs": {"TYPE": 2, "SIZE": 4, "FORMAT": "raw"}}.get(action)
    ours, plain, before, calls = [], [], bridge.connections(), 0
    for turn in range(min(SET.calls, 30) + 2):
        reference = tool("ssh", host, "true")
        taken = driver(f"{action} over a bridge", action, fs.base, image, {"BRIDGE_LIST": host}).seconds
        calls += 1
        if turn >= 2:
            ours.append(taken)
            plain.append(reference)
    fs.empty(fs.base)
    mine, base = statistics.median(ours), statistics.median(plain)
    figures = f"{mine * 1000:.0f} ms", f"`ssh host true` {base * 1000:.0f} ms"
    samples = {"ours": ours, "reference": plain}
    if suffix:
        row(f"bridge: {action}{suffix}", *figures, None, "≤ 60 ms", mine <= 0.060, samples)
        return
    each = (bridge.connections() - before - calls) / calls
    row(f"bridge: {action}", f"{figures[0]}, {each:g} connection", figures[1], None,
        "≤ 30 ms over ssh, 1 connection", mine - base <= 0.030 and each == 1, samples)


def wire(fs, bridge):
    """A raw file of which a tenth is data."""
    size, data, offset, dice = SET.size * MIB, 0, 0, random.Random(2)
    path = fs.users / "tenth.raw"
    with open(path, "wb") as file:
        file.truncate(size)
        while offset < size:
            length = min(size - offset, int(2 ** dice.uniform(12, 21)) & ~0xFFF)
            file.seek(offset)
            file.write(random.randbytes(length))
            data += length
            offset += length * 10
    os.sync()
    before = bridge.relay.count
    taken = driver("cp over a bridge", "cp", fs.base, {"TYPE": 0, "PATH": path, "SIZE": SET.size}, {"BRIDGE_LIST": "bench-host"})
    sent = bridge.relay.count - before
    copy = Path(taken.reply.rsplit(" ", 1)[0])
    tool("cmp", path, copy)
    path.unlink()
    fs.empty(fs.base)
    row("bridge: wire of a sparse cp", f"{sent / MIB:.1f} MiB, {taken.seconds:.2f} s", f"{data / MIB:.1f} MiB of data",
        sent / data, "1.05 ×", sent <= 1.05 * data)
