"""Runs ON the board, for as long as one run lasts: takes files, starts programs, gives back what they left.

Standard library, Python 3.6 or newer. It is not installed: hwkit sends it through ssh into `python3 -c`, so that
nothing of it is left. When its stdin ends or falls silent - the host died, or the link - it ends what it
started and removes its folder: the board is left as it was found.

Both ways go frames: a line of JSON, and after it as many raw bytes as its "bytes" says. From the host:
    {"op": "hello", "scratch", "lock", "sites", "who" ...}   first; takes the board, makes the folder. It is given
                                                          back when nothing is heard for its "silence_s"
    {"op": "put", "path", "bytes", "sha256", "mode"}           paths are relative to the folder
    {"op": "unzip", "path", "into", "bytes", "sha256"}         a zip archive; `into` as in "put", or below "~/"
    {"op": "kept", "into", "sha256"}       whether that was done in an earlier run and may be used again
    {"op": "run", "argv", "env", "timeout_s", "memory_bytes"}  in the folder; "python" as argv[0] is this Python
    {"op": "get", "path"}                                      {"op": "beat"}        {"op": "bye"}
An answer is {"ok": ...}, or {"error": kind, "text": ...}; while a program runs there is a {"line": ...} for each
of its lines, and {"beat": n} every "beat_s" seconds all along.
"""

import contextlib
import ctypes
import errno
import fcntl
import glob
import hashlib
import io
import json
import os
import platform
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

MAGIC = "hwkit-agent 1"
PREFIX = "hwkit-board-"
STAMP = ".hwkit-sha256"                  # in a folder that was unzipped whole: of which archive
DIE_WITH_PARENT = 1                      # PR_SET_PDEATHSIG
KINDS = {errno.ENOSPC: "disk-full", errno.EDQUOT: "disk-full", errno.EFBIG: "disk-full",
         errno.ENOMEM: "out-of-memory", errno.ENOEXEC: "wrong-board"}


class Refused(Exception):
    """What cannot be done: (kind, text) of an answer."""


class Wire:
    """The two ends of the ssh channel. Anything may write, one frame at a time."""

    def __init__(self):
        self._in, self._out = sys.stdin.buffer, sys.stdout.buffer
        self._lock = threading.Lock()
        self.heard = time.monotonic()

    def send(self, header, body=b""):
        frame = json.dumps(header).encode() + b"\n" + body
        with self._lock:
            self._out.write(frame)
            self._out.flush()

    def receive(self):
        """The next (header, body), None at the end."""
        line = self._in.readline()
        if not line.endswith(b"\n"):
            return None
        header = json.loads(line.decode())
        body, left = [], header.get("bytes", 0)
        while left:
            part = self._in.read1(min(left, 1 << 20))
            if not part:
                return None
            self.heard = time.monotonic()
            body.append(part)
            left -= len(part)
        self.heard = time.monotonic()
        return header, b"".join(body)


def oom_kills():
    """How many processes the kernel has ended for want of memory since it started; 0 where it does not say."""
    try:
        with open("/proc/vmstat") as f:
            return next((int(line.split()[1]) for line in f if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def boot():
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            return f.read().strip()
    except OSError:
        return ""


def libc():
    """E.g. "glibc 2.36"; "" for another library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def take_board(path, who):
    """The lock, held until this process ends: one file for all users. Refused where someone else has it."""
    # O_CREAT on another user's file in a sticky folder is refused by the kernel: first as it is
    for flags in (os.O_RDWR, os.O_RDWR | os.O_CREAT | os.O_EXCL):
        try:
            lock = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            break
        except (FileNotFoundError, FileExistsError):
            continue
    else:
        raise Refused("busy", "its lock is being made by someone else")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 200).decode("utf-8", "replace").strip()
        raise Refused("busy", holder or "someone") from None
    with contextlib.suppress(OSError):
        os.fchmod(lock, 0o666)
    os.ftruncate(lock, 0)
    os.write(lock, who.encode()[:200])
    return lock


class Agent:
    def __init__(self):
        self.wire = Wire()
        self.frames = queue.Queue()                        # None at the end
        self.folder, self.lock, self.child = None, None, None
        self.silence_s = 60.0

    def main(self):
        sys.stdout.write(MAGIC + "\n")
        sys.stdout.flush()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self.leave)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for work in (self.listen, self.watch):
            threading.Thread(target=work, daemon=True).start()
        try:
            for header, body in iter(self.frames.get, None):
                self.answer(header, body)
        except (OSError, ValueError):                      # nobody listens any more
            pass
        self.leave()

    def leave(self, *_):
        """End what was started, remove what was brought, give the board back."""
        if self.child:
            with contextlib.suppress(OSError):
                os.killpg(self.child.pid, signal.SIGKILL)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.lock is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self.lock, 0)
        os._exit(0)

    def listen(self):
        while True:
            try:
                frame = self.wire.receive()
            except (OSError, ValueError):
                frame = None
            if frame is None or frame[0].get("op") == "bye":
                if self.child:                             # whoever waits for it will not get to the queue
                    self.leave()
                self.frames.put(None)
                return
            if frame[0].get("op") != "beat":
                self.frames.put(frame)

    def watch(self):
        """Sends nothing, so that a link that takes nothing cannot hold it up."""
        while time.monotonic() - self.wire.heard < self.silence_s:
            time.sleep(min(1.0, self.silence_s / 10))
        self.leave()

    def beat(self, every_s):
        count = 0
        while True:
            time.sleep(every_s)
            count += 1
            try:
                self.wire.send({"beat": count})
            except (OSError, ValueError):
                self.leave()

    def answer(self, header, body):
        try:
            told, data = getattr(self, "do_" + header["op"])(header, body)
        except Refused as e:
            self.wire.send({"error": e.args[0], "text": e.args[1]})
        except OSError as e:
            kind = KINDS.get(e.errno, "process-failed")
            self.wire.send({"error": kind, "text": "{}: {}".format(e.strerror, e.filename or header["op"])})
        except MemoryError:
            self.wire.send({"error": "out-of-memory", "text": header["op"]})
        except Exception as e:
            text = "{}: {}: {}".format(header.get("op"), type(e).__name__, e)
            self.wire.send({"error": "process-failed", "text": " ".join(text.split())[:500]})
        else:
            self.wire.send(dict(told, ok=True, bytes=len(data)), data)

    def do_hello(self, header, _):
        self.silence_s = header["silence_s"]
        threading.Thread(target=self.beat, args=(header["beat_s"],), daemon=True).start()
        self.lock = take_board(header["lock"], header["who"])
        base = header["scratch"] or os.environ.get("TMPDIR") or "/tmp"     # tempfile's own looks elsewhere if full
        for left in glob.glob(os.path.join(base, PREFIX + "*", "")):     # of an agent that was killed
            if os.stat(left).st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)
        self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=base)
        room = os.statvfs(self.folder)
        sys.path[:0] = header["sites"]
        return {"folder": self.folder, "machine": platform.machine(), "system": platform.system(),
                "python": list(sys.version_info[:3]), "libc": libc(), "boot": boot(),
                "free_bytes": room.f_bavail * room.f_frsize,
                "packages": {name: version(name) for name in header["packages"]}}, b""

    def inside(self, path):
        """A path of the host's inside the folder, its own folder made."""
        full = os.path.normpath(os.path.join(self.folder, path))
        if not (full + os.sep).startswith(self.folder + os.sep):
            raise Refused("process-failed", f"{path} is not inside the folder")
        os.makedirs(os.path.dirname(full), exist_ok=True)
        return full

    def whole(self, header, body):
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            raise Refused("corrupt-transfer", "{} arrived damaged".format(header["path"]))

    def do_put(self, header, body):
        self.whole(header, body)
        path = self.inside(header["path"])
        with open(path, "wb") as f:
            f.write(body)
        os.chmod(path, header.get("mode", 0o644))
        return {}, b""

    def do_unzip(self, header, body):
        self.whole(header, body)
        into = header["into"]
        into = os.path.expanduser(into) if into.startswith("~/") else self.inside(into)
        import zipfile  # rarely needed, and slow to import
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            archive.extractall(into)
        with open(os.path.join(into, STAMP), "w") as f:
            f.write(header["sha256"])
        return {"into": into}, b""

    def do_kept(self, header, _):
        into = os.path.expanduser(header["into"])
        try:
            with open(os.path.join(into, STAMP)) as f:
                return {"into": into if f.read() == header["sha256"] else None}, b""
        except OSError:
            return {"into": None}, b""

    def do_get(self, header, _):
        try:
            with open(self.inside(header["path"]), "rb") as f:
                data = f.read()
        except FileNotFoundError:
            raise Refused("missing", header["path"]) from None
        return {"sha256": hashlib.sha256(data).hexdigest()}, data

    def do_list(self, header, _):
        top = self.inside(header["path"])
        found = [os.path.relpath(os.path.join(folder, name), self.folder)
                 for folder, _, names in os.walk(top) for name in names]
        return {"paths": sorted(found)}, b""

    def do_run(self, header, _):
        argv = [sys.executable if header["argv"][0] == "python" else header["argv"][0], *header["argv"][1:]]
        limit, kills = header.get("memory_bytes"), oom_kills()
        library = ctypes.CDLL(None)

        def before():
            library.prctl(DIE_WITH_PARENT, signal.SIGKILL)
            if limit:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        try:
            self.child = subprocess.Popen(
                argv, cwd=self.folder, env=dict(os.environ, **header["env"]), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=before)
        except FileNotFoundError:
            raise Refused("missing", argv[0]) from None
        expired = threading.Event()

        def expire():
            expired.set()
            os.killpg(self.child.pid, signal.SIGKILL)

        timer = threading.Timer(header["timeout_s"], expire)
        timer.start()
        started = time.monotonic()
        try:
            for line in iter(self.child.stdout.readline, b""):
                self.wire.send({"line": line.decode("utf-8", "replace").rstrip("\n")})
            code = self.child.wait()
        finally:
            timer.cancel()
            with contextlib.suppress(OSError):             # what the program left running
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child = None
        return {"exit": code, "expired": expired.is_set(), "oom": oom_kills() > kills,
                "seconds": time.monotonic() - started}, b""


def version(name):
    """Version of a package that can be imported here, "" where it does not tell, None for one that is not there.

    By the names of folders: importlib.metadata takes most of a second on a slow core.
    """
    for folder in sys.path:
        if os.path.isdir(os.path.join(folder, name)):
            told = glob.glob(os.path.join(glob.escape(folder), name + "-*.dist-info"))
            return os.path.basename(told[0])[len(name) + 1:-len(".dist-info")] if told else ""
    return None


Agent().main()
