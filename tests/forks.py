"""Programs that need torch, forked from a process that has loaded it: a run starts in 20 ms instead of 2 s.

`with Forks() as python: python.run("train.py", ...)` runs a script, or `-c CODE`, as `python train.py ...` would: with its own
arguments, environment, streams and exit code. What differs is that torch, and the modules of training/, are there already.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
TRAINING = ROOT / "training"
START_S = 120.0


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
    """The client: starts the process that has torch, when the first run is asked for."""

    def __enter__(self) -> "Forks":
        self.folder = tempfile.TemporaryDirectory(prefix="forks-")
        self.address = str(Path(self.folder.name) / "socket")
        self.server: subprocess.Popen[bytes] | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.server:
            self.server.terminate()
            self.server.wait()
        self.folder.cleanup()

    def start(self, *words: str, env: dict[str, str] | None = None, stdout: int = 1, stderr: int = 2) -> Fork:
        """Start `python WORDS` with the environment of this process and `env`; the streams are file descriptors."""
        if self.server is None:
            self.server = subprocess.Popen([sys.executable, __file__, self.address], stdout=subprocess.PIPE)
            assert self.server.stdout and self.server.stdout.readline() == b"ready\n"
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


def serve(address: str) -> None:
    """Fork for each connection, and tell it the exit code when the fork has ended."""
    sys.path.insert(0, str(TRAINING))
    import train  # noqa: F401  what takes seconds

    sys.path.remove(str(TRAINING))
    running: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(address)
        door.listen(16)
        print("ready", flush=True)
        while True:
            if select.select([door], [], [], 0.01 if running else None)[0]:
                connection, _ = door.accept()
                process = fork(connection)
                running[process] = connection
                tell(connection, {"pid": process})
            for process in list(running):
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    with running.pop(process) as connection:
                        tell(connection, {"code": os.waitstatus_to_exitcode(status)})


def tell(connection: socket.socket, what: dict[str, int]) -> None:
    connection.sendall(json.dumps(what).encode() + b"\n")


def fork(connection: socket.socket) -> int:
    size, streams, _, _ = socket.recv_fds(connection, 4, 2)
    data = b""
    while len(data) < int.from_bytes(size, "big"):
        data += connection.recv(1 << 16)
    process = os.fork()
    if process == 0:
        code = 1
        try:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
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
    serve(sys.argv[1])
