"""An interpreter beside the suite's own, which runs training's programs as forks of the process of tests/forks.py.

It is a virtual environment whose packages are this interpreter's. At its start it imports this file; anything but the programs
below then runs as ever. For those its process stays, with its id and its group, passes signals on, and ends as the fork did.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

PROGRAMS = ("train.py", "export.py", "evaluate.py", "weights.py")


def make_interpreter(folder: Path, address: str) -> Path:
    """Make the environment in `folder`, and return its interpreter."""
    import sysconfig

    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    shutil.copy(__file__, packages)
    own = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (packages / "a.pth").write_text(own)
    (packages / "b.pth").write_text(f"import forked_python; forked_python.hand_over({address!r})\n")
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    binaries = Path(sys.executable).parent
    (folder / "bin").mkdir()
    for path in binaries.iterdir():  # commands that people install beside it, such as openssl, are found as before
        (folder / "bin" / path.name).symlink_to(path.resolve() if path.name.startswith("python") else path)
    (folder / "bin" / "activate").unlink(missing_ok=True)
    (folder / "bin" / "activate").write_text(f"export PATH={shlex.quote(str(folder / 'bin'))}:$PATH\n")
    return folder / "bin" / Path(sys.executable).name


def hand_over(address: str) -> None:
    """Run one of the programs as a fork, and end as it ended; return at once if this process is to run anything else."""
    words = sys.orig_argv[1:]
    if not words or Path(words[0]).name not in PROGRAMS:
        return
    import json
    import signal
    import socket

    passed = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    usual = signal.pthread_sigmask(
        signal.SIG_BLOCK, passed
    )  # one that comes early is passed on as soon as there is a fork

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    asked = json.dumps({"words": words, "env": dict(os.environ), "folder": str(Path.cwd())}).encode()
    socket.send_fds(connection, [len(asked).to_bytes(4, "big")], [1, 2])
    connection.sendall(asked)
    answers = connection.makefile("r")
    pid = json.loads(answers.readline())["pid"]
    for number in passed:
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, usual)
    code = json.loads(answers.readline())["code"]
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
