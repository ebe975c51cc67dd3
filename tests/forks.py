"""Programs that need torch, forked from a process that has loaded it: a run costs 0.2 s of CPU instead of 3.5 s.

A suite has one such process, which starts when the first run is asked for. `Forks(address).run("train.py", ...)` runs a script,
or `-c CODE`, as `python train.py ...` would: with its own arguments, environment, folder, streams and exit code. What differs is
that torch, torchvision and the exporter are there already. The script's own modules are not: a run imports those beside it.

tests/forked_python.py makes an interpreter whose runs of training's programs are such forks.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path

TRAINING = Path(__file__).resolve().parent.parent / "training"
ADDRESS = "KENNEL_TESTS_FORKS"  # the environment variable that names the socket to pytest's workers
FOLLOW_S = 0.2
PRELOADED = (
    "numpy", "safetensors.torch", "PIL.Image", "torch.distributed", "torch._dynamo", "torch.fx.experimental.optimization", "onnx",
    "onnxscript", "torch.onnx._internal.exporter._core", "torch.onnx._internal.exporter._compat",
)  # fmt: skip


class Fork:
    """One run, as far as subprocess.Popen would be asked about it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.answers = connection, connection.makefile("r")
        self.pid: int = json.loads(self.answers.readline())["pid"]
        self.returncode: int | None = None

    def wait(self, timeout: float = 120) -> int:
        """The exit code; negative, as subprocess has it, for a signal. Raises TimeoutError."""
        if self.returncode is None:
            self.connection.settimeout(timeout)
            self.returncode = json.loads(self.answers.readline())["code"]
            self.connection.close()
        return self.returncode


class Forks:
    """The client: asks the process at `address` for runs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def start(self, *words: str, env: dict[str, str] | None = None, stdout: int = 1, stderr: int = 2) -> Fork:
        """Start `python WORDS` with the environment of this process and `env`; the streams are file descriptors."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self.address)
        asked = json.dumps({"words": words, "env": dict(os.environ) | (env or {}), "folder": str(Path.cwd())}).encode()
        socket.send_fds(connection, [len(asked).to_bytes(4, "big")], [stdout, stderr])
        connection.sendall(asked)
        return Fork(connection)

    def run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = self.start(*words, env=env, stdout=out.fileno(), stderr=err.fileno()).wait()
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return subprocess.CompletedProcess(words, code, *texts)


class Listener:
    """The socket of a suite: it starts the process that has torch when the first run is asked for, and ends it with the suite."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.address = str(Path(self.folder.name) / "socket")
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.door.bind(self.address)
        self.door.listen(64)
        self.server: subprocess.Popen[bytes] | None = None
        self.env = dict(os.environ)
        self.ended, self.end = os.pipe()
        self.thread = threading.Thread(target=self.serve_first, daemon=True)
        self.thread.start()

    def serve_first(self) -> None:
        if self.door in select.select([self.door, self.ended], [], [])[0]:
            files = self.door.fileno(), self.ended
            argv, quiet = [sys.executable, __file__, *map(str, files)], subprocess.DEVNULL
            self.server = subprocess.Popen(
                argv, env=self.env, pass_fds=files, stdin=quiet, stdout=quiet, start_new_session=True
            )
            self.door.close()  # so that a client of a process that has ended gets an error, and does not wait

    def close(self) -> None:
        os.close(self.end)
        self.thread.join()
        if self.server:
            self.server.wait()
        self.door.close()
        self.folder.cleanup()


@dataclass
class Run:
    """A fork that runs, and the client that asked for it."""

    process: int
    client: socket.socket
    client_process: int
    is_stopped: bool = False

    def follow_client(self) -> None:
        """Stop the fork while the client is stopped, which no program can catch: a frozen host is frozen as a whole."""
        try:
            stopped = Path(f"/proc/{self.client_process}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:  # it has ended
            return
        if stopped != self.is_stopped:
            os.kill(self.process, signal.SIGSTOP if stopped else signal.SIGCONT)
            self.is_stopped = stopped


def serve(door: socket.socket, ended: int) -> None:
    """Fork for each connection, and tell it the exit code when the fork has ended. A fork whose client is gone is killed.

    Returns when the suite has ended, in whatever way: then the other end of the pipe `ended` is closed.
    """
    preload()
    running: dict[int, Run] = {}  # by the fork's pidfd
    while True:
        clients = {run.client: number for number, run in running.items()}
        ready = select.select([door, ended, *running, *clients], [], [], FOLLOW_S if running else None)[0]
        if ended in ready:
            return
        for number in ready:
            if number in running:
                run = running.pop(number)
                os.close(number)
                with run.client:
                    tell(run.client, {"code": os.waitstatus_to_exitcode(os.waitpid(run.process, 0)[1])})
            elif number in clients and clients[number] in running:
                os.kill(running[clients[number]].process, signal.SIGKILL)  # a client says no more, so it has ended
        for run in running.values():
            run.follow_client()
        if door in ready:
            client, _ = door.accept()
            peer = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            run = Run(fork(client, door), client, peer)
            running[os.pidfd_open(run.process)] = run
            tell(client, {"pid": run.process})


def preload() -> None:
    sys.path.insert(0, str(TRAINING))
    import vision

    sys.path.remove(str(TRAINING))
    globals()["kept"] = sys.modules.pop("vision") or vision  # what it declares lasts as long as it does
    for name in PRELOADED:
        importlib.import_module(name)


def tell(connection: socket.socket, what: dict[str, int]) -> None:
    try:
        connection.sendall(json.dumps(what).encode() + b"\n")
    except OSError:  # it has ended
        return


def fork(connection: socket.socket, door: socket.socket) -> int:
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    data = b""
    while len(data) < int.from_bytes(size, "big"):
        data += connection.recv(1 << 16)
    process = os.fork()
    if process == 0:
        code = 1
        try:
            door.close()
            os.setsid()
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
                os.close(stream)
            os.closerange(3, 4096)
            code = carry_out(**json.loads(data))
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    for stream in streams:
        os.close(stream)
    return process


def carry_out(words: list[str], env: dict[str, str], folder: str) -> int:
    """What the interpreter does with its command line. The exit code."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.path[1:1] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    if env.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    try:
        if words[0] == "-c":
            sys.argv, sys.path[0] = ["-c", *words[2:]], ""
            exec(words[1], {"__name__": "__main__"})
        else:
            sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
