"""One sandbox for the whole suite, in a folder of its own; each test that needs apartness takes a stack of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Before ops is imported: nothing of the person who runs the tests is read or written.
HOME = Path(tempfile.mkdtemp(prefix="kennel-tests-"))
os.environ["KENNEL_WORK"] = str(HOME / "work")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)

import invoke  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

from ops.core import settings as config  # noqa: E402
from ops.core.aws.account import Account  # noqa: E402
from ops.core.paths import ROOT  # noqa: E402
from sandbox import processes, state  # noqa: E402
from sandbox.client import ask  # noqa: E402


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Cli:
    """Commands as people type them, in a process of their own, with the settings file of one stack."""

    file: Path

    def __call__(self, *words: str, ok: bool = True, env: dict[str, str] | None = None, timeout: float = 200) -> Ran:
        argv = [sys.executable, "-m", "invoke", "-f", str(self.file), *words]
        done = subprocess.run(
            argv,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=os.environ | (env or {}),
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert not ok or ran.code == 0, ran.said
        return ran

    def background(self, *words: str) -> subprocess.Popen:
        argv = [sys.executable, "-m", "invoke", "-f", str(self.file), *words]
        return subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def settings(self):
        return settings_of(self.file)

    @property
    def account(self) -> Account:
        return Account(self.settings)


def until(process: subprocess.Popen, words: str) -> list[str]:
    """Read a command's output up to a line with these words."""
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return said
    raise AssertionError("".join(said))


def settings_of(file: Path | None = None, text: str = ""):
    """The settings as a task gets them: invoke.yaml, then the file (or `text`, as if a file had it), then the environment."""
    if text:
        file = Path(tempfile.mkstemp(suffix=".yaml", dir=HOME)[1])
        file.write_text(text)
    loaded = invoke.Config(project_location=ROOT, runtime_path=file)
    loaded.load_project()
    loaded.load_runtime()
    loaded.load_shell_env()
    return config.load(loaded)


@pytest.fixture(scope="session")
def settings():
    """The shipped defaults."""
    return settings_of()


def write_settings(path: Path, folder: Path, stack: str, more: str = "") -> Path:
    path.write_text(f"stack: {{name: {stack}}}\naws: {{config_file: {folder}/aws/config}}\n{more}")
    return path


@pytest.fixture(scope="session")
def sandbox():
    """The suite's local AWS: its folder. Everything in it has ended when the suite ends."""
    folder = HOME / "sandbox"
    cli = Cli(write_settings(HOME / "suite.yaml", folder, "suite"))
    cli("sandbox.up")
    yield folder
    cli("sandbox.down")
    assert processes.leftovers(folder) == []
    shutil.rmtree(HOME)


def with_roles(account: Account) -> None:
    """As iam.apply leaves it, without a process of its own."""
    from iampolicy.account import snapshot
    from ops.core import plan as change
    from ops.iam import apply, roles

    wanted = roles.wanted(account.settings)
    change.apply(apply.steps(snapshot.read(account), wanted, account.settings), account, lambda line: None)


@pytest.fixture(scope="session")
def stacks(sandbox):
    """Makes a Cli with a stack of its own and its roles applied: stacks("name", "more: yaml")."""

    def make(name: str, more: str = "", roles: bool = True) -> Cli:
        cli = Cli(write_settings(HOME / f"{name}.yaml", sandbox, name, more))
        if roles:
            with_roles(cli.account)
        return cli

    return make


@pytest.fixture(scope="session")
def strike(sandbox):
    """What befalls the sandbox's parts: strike("box", instance=..., sshd="down")."""
    return lambda what, **body: ask(state.read(sandbox), "POST", what, body)


@pytest.fixture
def drill(strike):
    """The same, with clock and faults as they were when the test is over."""
    yield strike
    strike("faults/clear")
    strike("clock", speed=1)


@pytest.fixture(scope="session")
def whole(stacks, digits):
    """A stack on which the whole demo ran once: the path itself is the first thing that is tested."""
    cli = stacks("whole")
    cli("demo", timeout=400)
    return cli


@pytest.fixture(scope="session")
def digits():
    from ops.datasets import digits
    from ops.reports import demo

    return digits.write(demo.DIGITS)


@pytest.fixture
def pictures(tmp_path):
    """A tiny folder of pictures, two classes by three splits, that trains nothing but packs like any other."""
    for split in ("train", "valid", "test"):
        for label, colour in (("cat", 40), ("dog", 200)):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (12, 9), (colour, number * 20, len(split))).save(folder / f"{number}.png")
    return tmp_path / "pictures"
