"""One sandbox for the whole suite, in a folder of its own; each test that needs apartness takes a stack of its own."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Before ops is imported: nothing of the person who runs the tests is read or written.
HOME = Path(tempfile.mkdtemp(prefix="kennel-tests-"))
os.environ["KENNEL_WORK"] = str(HOME / "work")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # idle threads of torch spin, and workers share the cores already
for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)

# What a parent ignores (nohup, a shell's &, some runners) its children ignore too, and so would every command that a test interrupts.
# A handler that does nothing keeps the suite as it was started, and is back to the default in whatever it starts.
TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)
for number in TERMINATION_SIGNALS:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

import hypothesis  # noqa: E402
import invoke  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

from iampolicy.account import snapshot  # noqa: E402
from ops.core import plan  # noqa: E402
from ops.core import settings as config  # noqa: E402
from ops.core.aws.account import Account  # noqa: E402
from ops.core.paths import ROOT  # noqa: E402
from ops.iam import apply, roles  # noqa: E402
from sandbox import processes, state  # noqa: E402
from sandbox.client import send_control_request  # noqa: E402
from tests import in_process  # noqa: E402
from tests.forked_python import make_interpreter  # noqa: E402
from tests.forks import ADDRESS, Forks, Listener  # noqa: E402
from tests.in_process import Ran, run_invoke  # noqa: E402

# With more workers than cores a case may take any time; what a test is to bound in time, it measures itself.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

DEMO_STACK = "whole"
# The slowest first, so that no worker ends with one of them alone; `demo` are the tests on the stack that the demo made.
SLOWEST = (
    "demo", "test_readme", "test_incidents", "test_incidents_serving", "test_ec2_spot", "test_ec2_jobs", "test_training_jobs", "test_rollouts",
    "test_ec2_failures", "test_ec2_idle", "test_ec2_files", "test_reach", "test_training", "test_benchmarks", "test_iam_apply",
    "test_incidents_iam", "test_data_push", "test_iam_prune", "test_ec2", "test_tuning", "test_jobs", "test_resume",
    "test_sandbox", "test_ec2_access", "test_image", "test_data_pull", "test_report", "test_model",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Offer forks of one process that has torch, to this process or to the workers that it starts."""
    if not hasattr(config, "workerinput"):
        listener = Listener()
        os.environ[ADDRESS] = listener.address
        config.add_cleanup(listener.close)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes and long texts by their parameter and a number, in place of their content.

    Workers of pytest-xdist compare names. A gzip body holds the second in which it was made, so two workers could disagree.
    """
    return (
        argname
        if isinstance(val, bytes)
        or (isinstance(val, str) and (len(val) > 60 or not (val.isascii() and val.isprintable())))
        else None
    )


@pytest.hookimpl(wrapper=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Say which tests have to run in one process: those on the demo's stack, and those of a file, but for the free ones of e2e."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}

    def group_of(item: pytest.Item) -> str:
        definitions = item._fixtureinfo.name2fixturedefs
        if "demo_stack" in definitions and definitions["demo_stack"][-1].scope == "session":
            return "demo"
        if named := item.get_closest_marker("xdist_group"):
            return named.args[0]
        free = all(found[-1].scope in ("function", "session") for found in definitions.values())
        return item.name if free and item.path.parent.name == "e2e" else item.path.stem

    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        if item.get_closest_marker("xdist_group"):
            continue
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(group if group == "demo" else f"{folder}-{item.path.stem}-{group}"))

    def rank(item: pytest.Item) -> tuple[int, bool]:
        """What looks at the demo's own report comes before what changes its stack."""
        first = min(ranks.get(name, len(ranks)) for name in (groups[item], item.path.stem))
        return first, item.path.stem != "test_demo"

    items.sort(key=rank)
    yield
    if getattr(config.option, "loadgroup", False) and not all("@" in item.nodeid for item in items):
        raise pytest.UsageError("This pytest ignores the groups of pytest-xdist; install those of pyproject.toml.")


def pytest_collection_finish() -> None:
    """Collect garbage again: tests import tasks.py, which switches that off until a command runs.

    What there is now stays to the end: thousands of tests and all modules, which each collection would look through.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # Python's 700, 10, 10 take an eighth of a worker's time
    gc.enable()


@dataclass(frozen=True)
class Cli:
    """Commands with the settings file of one stack: in this process, or as people type them."""

    file: Path

    def __call__(self, *words: str, ok: bool = True, env: dict[str, str] | None = None) -> Ran:
        """Run a command in this process, which saves the second that a new interpreter takes to load what it needs."""
        return checked(run_invoke(["-f", str(self.file), *words], env or {}), ok)

    def typed(self, *words: str, ok: bool = True, env: dict[str, str] | None = None, timeout: float = 200) -> Ran:
        """Run a command in a process of its own."""
        done = subprocess.run(
            self.argv(*words),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            env=os.environ | (env or {}),
        )
        return checked(Ran(done.returncode, done.stdout, done.stderr), ok)

    def background(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.argv(*words),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "invoke", "-f", str(self.file), *words]

    @property
    def settings(self):
        return settings_of(self.file)

    @property
    def account(self) -> Account:
        return Account(self.settings)


def checked(ran: Ran, ok: bool) -> Ran:
    assert not ok or ran.code == 0, ran.said
    return ran


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
    in_process.interpreter = str(make_interpreter(HOME / "python", os.environ[ADDRESS]))
    cli("sandbox.up")
    yield folder
    cli.typed("sandbox.down")
    assert processes.list_sandbox_processes(folder) == []
    shutil.rmtree(HOME)


def apply_roles(cli: Cli) -> None:
    """Make the stack's roles as iam.apply does, call by call."""
    account = cli.account
    wanted = roles.read_roles(account.settings)
    plan.apply(partial(apply.steps, snapshot.read(account), wanted, account.settings), account, lambda line: None)


def plant_roles(cli: Cli, running: state.State) -> None:
    """Make the same roles, in an account that has none of the stack, with one request to the sandbox instead of fifty."""
    settings = cli.settings
    changes = plan.preview(apply.steps(snapshot.Snapshot(), roles.read_roles(settings), settings))
    send_control_request(running, "POST", "iam", {"calls": [(change.call, change.args) for change in changes]})


PLANTED: set[str] = set()  # stacks whose roles are there


@pytest.fixture(scope="session")
def make_stack(sandbox):
    """Return a function that makes a Cli with a stack of its own, its roles applied: make_stack("name", "more: yaml")."""

    def make(name: str, more: str = "", roles: bool = True) -> Cli:
        cli = Cli(write_settings(HOME / f"{name}.yaml", sandbox, name, more))
        if roles and name in PLANTED:
            apply_roles(cli)
        elif roles:
            plant_roles(cli, state.read(sandbox))
            PLANTED.add(name)
        return cli

    return make


@pytest.fixture(scope="module", autouse=True)
def remove_roles_of_ended_stacks():
    """Remove the roles of the stacks that a module has made: every audit, diff and apply after it would read them.

    The demo's stack serves other modules too.
    """
    yield
    for name in PLANTED - {DEMO_STACK}:
        send_control_request(state.read(HOME / "sandbox"), "POST", "iam/remove", {"stack": name})
        PLANTED.remove(name)


@pytest.fixture(scope="session")
def control_sandbox(sandbox):
    """Send a control request to the sandbox: control_sandbox("box", instance=..., sshd="down")."""
    return lambda what, **body: send_control_request(state.read(sandbox), "POST", what, body)


@pytest.fixture
def inject_fault(control_sandbox):
    """The same, with clock and faults reset at the end of the test."""
    yield control_sandbox
    control_sandbox("faults/clear")
    control_sandbox("clock", speed=1)


@pytest.fixture(scope="session")
def demo_stack(make_stack, digits):
    """A stack on which the whole demo ran once: the demo itself is the first thing that is tested."""
    cli = make_stack(DEMO_STACK)
    cli.typed("demo", timeout=500)
    return cli


@pytest.fixture
def scaling_stack(demo_stack):
    """The demo's stack with a scaling target and bounds that a test's load reaches. Its function admits nothing that they had to cover."""
    cli = Cli(demo_stack.file.with_name("wholescaling.yaml"))
    endpoint = "max_instances: 2, invocations_per_instance: 20, scale_out_cooldown_s: 20, scale_in_cooldown_s: 20"
    more = f"endpoint: {{{endpoint}}}\nfn: {{reserved: 0, provisioned: 0}}\n"
    cli.file.write_text(demo_stack.file.read_text() + more)
    yield cli
    demo_stack("sm.autoscale")


@pytest.fixture(scope="session")
def digits():
    from ops.datasets import digits
    from ops.reports import demo

    return digits.write(demo.DIGITS)


@pytest.fixture(scope="session")
def few_digits(digits):
    """A fifth of the digits, for jobs that are interrupted, followed or resumed: an epoch of all of them takes 2 s of CPU."""
    few = HOME / "few"
    for split in digits.iterdir():
        for label in split.iterdir():
            (few / split.name / label.name).mkdir(parents=True)
            for picture in sorted(label.iterdir())[::5]:
                shutil.copy(picture, few / split.name / label.name)
    return few


@pytest.fixture(scope="session")
def forks():
    """Runs of programs that need torch, which is loaded once."""
    return Forks(os.environ[ADDRESS])


@pytest.fixture
def pictures(tmp_path):
    return draw_pictures(tmp_path / "pictures")


def draw_pictures(root: Path) -> Path:
    """A tiny folder of pictures, two classes by three splits, that trains nothing but packs like any other."""
    for split in ("train", "valid", "test"):
        for label, colour in (("cat", 40), ("dog", 200)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (12, 9), (colour, number * 20, len(split))).save(folder / f"{number}.png")
    return root
