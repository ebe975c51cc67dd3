"""The evidence of a stack: what its commands answer, as one self-contained HTML page and as JSON.

Two runs on the same state give the same bytes, except for the times when the answers were read: what changes by itself is left out.
Each digest is the SHA-256 of a part's data as JSON, with sorted keys and without blanks, so a reader can compute it again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.core import pricing
from ops.core.errors import OpsError
from ops.core.files import write_atomically
from ops.core.masking import mask_keys
from ops.core.output import say
from ops.core.paths import WORK
from ops.core.redaction import redact_text
from ops.core.settings import Settings
from ops.core.task import Result
from ops.reports import html

TEMPLATE = Path(__file__).with_name("evidence.html.j2")
FOLDER = WORK / "evidence"
SAMPLE = 3
ROWS, LENGTH = 10, 160  # what the page shows of a table, and of one value; the JSON file has all
COST_NAMES = ("sm.status", "ec2.status", "lambda.status")
PLOTS = {
    "curves": "Loss, accuracy, learning rate and speed by epoch",
    "confusion": "Confusion matrix of the test split",
    "calibration": "Accuracy by confidence",
}
CAPACITY_PLOT = "What the function admits, what scaling plans for, and what it costs"


@dataclass(frozen=True)
class Part:
    """A command that reads, and the figure of its data. `volatile` are names of values that change while the state does not."""

    title: str
    command: str
    figure: Callable[[Any], str]
    volatile: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.command.split()[0]

    def show_command(self, job: str) -> str:
        """Return the command as the page shows it."""
        return f"invoke {self.command.format(job=job, plot='capacity.png')}"


@dataclass(frozen=True)
class Plot:
    """A plot, as PNG in base64."""

    alt: str
    png: str


@dataclass(frozen=True)
class Record:
    """What a command answered at a time. `problem` says why there is no answer; `left_out` names values that change by themselves."""

    title: str
    command: str
    figure: str
    data: Any
    time: str
    digest: str = ""
    exit_code: int = 0
    problem: str = ""
    left_out: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """The written evidence: the page, the JSON file, and what both hold."""

    page: Path
    json: Path
    records: list[Record]

    @property
    def missing(self) -> list[Record]:
        return [record for record in self.records if record.problem]


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def describe_endpoint(data: Any) -> str:
    return f"{data['status']}: {data['instances']} x {data['instance_type']}"


def describe_smoke(data: Any) -> str:
    return count(len(data["wrong"]), "wrong answer")


def describe_job(data: Any) -> str:
    accuracy = data["test"].get("accuracy")
    return "accuracy not recorded" if accuracy is None else f"test accuracy {accuracy:.4f}"


def describe_report(data: Any) -> str:
    score = data["metrics"].get("macro_f1")
    return "macro F1 not recorded" if score is None else f"macro F1 {score:.4f}"


def describe_box(data: Any) -> str:
    return f"{data['state']}: {data['type']}" if data["box"] else "no box"


def describe_box_jobs(data: Any) -> str:
    return f"{sum(one['state'] == 'Completed' for one in data)} of {count(len(data), 'job')} completed"


def describe_answers(data: Any) -> str:
    return f"{sum(one['truth'] == one['answer'] for one in data)} of {len(data)} right"


def describe_function(data: Any) -> str:
    return f"version {data['live']}, {data['state']}"


def describe_concurrency(data: Any) -> str:
    reserved = "none" if data["reserved"] is None else data["reserved"]
    return f"reserved {reserved}, provisioned {data['provisioned'] or 0}"


def describe_scaling(data: Any) -> str:
    wrong = sum(one["severity"] == "error" for one in data["findings"])
    fleet = f"{data['bounds'][0]} to {data['bounds'][1]} instances" if data["bounds"] else "not registered"
    return f"{fleet}, {count(wrong, 'problem')}"


def describe_capacity(data: Any) -> str:
    return f"admits {data['function']['admitted_per_minute']:,.0f}, plans for {data['covered_per_minute']['as_set']:,.0f} a minute"


def describe_checked_roles(data: Any) -> str:
    return f"{count(len(data['roles']), 'role')}, {count(len(data['failures']), 'failure')}"


def describe_audit(data: Any) -> str:
    left = [one for one in data["findings"] if not one["waived"] and one["severity"] != "info"]
    return f"{count(len(left), 'finding')}, {len(data['findings']) - len(left)} waived or informative"


PARTS = (
    Part("Endpoint", "sm.status --json", describe_endpoint, ("dollars_so_far", "requests", "errors_5xx", "in_state_minutes")),
    Part("Endpoint: its golden answers", "sm.smoke --json", describe_smoke, ("seconds",)),
    Part("Releases", "sm.releases --json", lambda data: count(len(data), "release")),
    Part("Datasets", "data.list --json", lambda data: count(len(data), "dataset")),
    Part("Training job of the live release", "sm.attach {job} --json", describe_job),
    Part("Training job: its plots", "sm.report {job} --json", describe_report, ("report", *PLOTS, "mistakes")),
    Part("Box", "ec2.status --json", describe_box, ("dollars_so_far", "stops_in_s")),
    Part("Box: its jobs", "ec2.ps --json", describe_box_jobs, ("pid", "alive", "reported")),
    Part("Network", "net.status --json", lambda data: f"{count(len(data['differs']), 'change')} pending"),
    Part("Function", "lambda.status --json", describe_function),
    Part("Function: its answers", f"lambda.invoke --sample {SAMPLE} --json", describe_answers),
    Part("Concurrency", "lambda.concurrency --json", describe_concurrency),
    Part("Scaling", "sm.autoscale --explain --json", describe_scaling, ("points", "state", "activities")),
    Part("Capacity", "sm.capacity --json --out {plot}", describe_capacity),
    Part("Roles: expected decisions", "iam.check --json", describe_checked_roles, ("seconds",)),
    Part("Roles: account against files", "iam.diff --json", lambda data: count(len(data), "difference")),
    Part("Audit", "iam.audit --json", describe_audit, ("calls", "seconds")),
)  # fmt: skip


def collect(read: Callable[[str], Result], settings: Settings, redacted: bool) -> list[Record]:
    """Return a record of each part, with costs last. `read` returns the result of a command, and raises OpsError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    plot, job = FOLDER / f"{settings.stack.name}-capacity.png", ""
    clean, found = make_cleaner(settings.aws.account, redacted), {}
    for part in PARTS:
        say(f"Reading {part.title} ...")
        record, result = read_part(part, job, plot, read, clean)
        found[part.name] = record
        if part.name == "sm.smoke" and result:
            job = result.data["job"]
    return [*found.values(), record_costs({name: found[name].data for name in COST_NAMES})]


def read_part(
    part: Part, job: str, plot: Path, read: Callable[[str], Result], clean: Callable[[str], str]
) -> tuple[Record, Result | None]:
    """Run the command of a part; return its record, and its result or None where the command failed."""
    record = Record(part.title, clean(part.show_command(job or "JOB")), "missing", None, read_clock())
    if "{job}" in part.command and not job:
        return replace(record, problem="The live release is unknown, and so is its job."), None
    try:
        result = read(part.command.format(job=shlex.quote(job), plot=shlex.quote(str(plot))))
    except OpsError as error:
        return replace(record, exit_code=error.code, problem=clean(str(error))), None
    data = clean_values(drop_keys(as_plain(result.data), part.volatile), clean)
    made = replace(
        record,
        figure=part.figure(data),
        data=data,
        digest=compute_digest(data),
        exit_code=result.code,
        left_out=part.volatile,
        plots=tuple(read_plots(part.name, result.data, plot)),
    )
    return made, result


def read_clock() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def as_plain(data: Any) -> Any:
    """Return the data as JSON has them; NaN and infinity become None."""
    return json.loads(json.dumps(data, default=str), parse_constant=lambda _: None)


def drop_keys(data: Any, names: tuple[str, ...]) -> Any:
    """Return the data without the values of these names, at any depth."""
    if isinstance(data, dict):
        return {key: drop_keys(value, names) for key, value in data.items() if key not in names}
    return [drop_keys(one, names) for one in data] if isinstance(data, list) else data


def make_cleaner(account: str, redacted: bool) -> Callable[[str], str]:
    """Return the function that every text passes: it masks keys, and with `redacted` account numbers and addresses too."""
    return (lambda text: redact_text(text, account)) if redacted else mask_keys


def clean_values(data: Any, clean: Callable[[str], str]) -> Any:
    """Return the data with every text cleaned, keys of objects included."""
    if isinstance(data, dict):
        return {clean(key): clean_values(value, clean) for key, value in data.items()}
    if isinstance(data, list):
        return [clean_values(one, clean) for one in data]
    return clean(data) if isinstance(data, str) else data


def compute_digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_plots(name: str, data: Any, capacity: Path) -> Iterator[Plot]:
    """Yield the plots that a command has drawn; `data` is its result."""
    if name == "sm.capacity" and capacity.is_file():
        yield Plot(CAPACITY_PLOT, html.read_as_base64(capacity))
    if name == "sm.report":
        for key, alt in PLOTS.items():
            if key in data:
                yield Plot(alt, html.read_as_base64(Path(data[key])))


def record_costs(data: dict[str, Any]) -> Record:
    """Return what the stack costs an hour at list prices, by the data of the commands that show it."""
    endpoint, box, function = (data[name] or {} for name in COST_NAMES)
    ahead = function.get("provisioned") or 0
    rows = {
        "endpoint": endpoint.get("dollars_per_hour", 0.0),
        "box and its disk": box.get("dollars_per_hour", 0.0),
        "provisioned concurrency": round(pricing.price_provisioned_concurrency(ahead, function.get("memory_mb", 0)), 4),
    }
    unknown = [name for name, dollars in rows.items() if dollars is None]
    total = round(sum(dollars or 0.0 for dollars in rows.values()), 4)
    kept = {
        "dollars_per_hour": rows,
        "total": total,
        "not counted": "alarms, logs, storage, requests, training jobs",
        "prices": f"list prices of {pricing.read_prices()['dated']}",
    }
    return Record(
        "Costs",
        f"invoke {' '.join(f'{name} --json' for name in COST_NAMES)}",
        f"${total:.3f} an hour" + (f", and {' and '.join(unknown)} without a known price" if unknown else ""),
        kept,
        read_clock(),
        compute_digest(kept),
    )


@dataclass(frozen=True)
class Table:
    """A table of the page: without a head, its first column has the names. `more` counts rows that are left out."""

    name: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    more: int = 0


def tabulate(data: Any) -> list[Table]:
    """Return the abridged data as tables: the values of an object by name, and one for each list of objects in it."""
    if not isinstance(data, dict):
        return [tabulate_list("", data if isinstance(data, list) else [])]
    lists = {name: value for name, value in data.items() if is_list_of_objects(value)}
    rows = [(name, shorten(value)) for name, value in data.items() if name not in lists]
    return [*([Table("", (), rows)] if rows else []), *(tabulate_list(name, value) for name, value in lists.items())]


def is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def tabulate_list(name: str, values: list[Any]) -> Table:
    left = max(0, len(values) - ROWS)
    if not is_list_of_objects(values):
        return Table(name, (), [(shorten(value),) for value in values[:ROWS]] or [("none",)], left)
    values = sorted(values, key=lambda value: bool(value.get("waived")))  # what is open comes first
    head = tuple(dict.fromkeys(key for value in values for key, one in value.items() if one not in ("", None, [])))
    return Table(name, head, [tuple(shorten(value.get(key, "")) for key in head) for value in values[:ROWS]], left)


def shorten(value: Any) -> str:
    text = describe_value(value)
    return text if len(text) <= LENGTH else f"{text[:LENGTH]} ..."


def describe_value(value: Any) -> str:
    """Return a value as people read it; an object as `name value, name value`."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {describe_value(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(describe_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def render_page(records: list[Record], stack: str, redacted: bool) -> str:
    """Return the page, which loads nothing and has no scripts."""
    return html.open_template(TEMPLATE).render(
        stack=stack,
        redacted=redacted,
        digest=compute_digest([record.digest for record in records]),
        parts=[(record, tabulate(record.data)) for record in records],
    )


def as_data(records: list[Record], stack: str, redacted: bool) -> dict[str, Any]:
    """Return the content of the JSON file: all data; of a plot its SHA-256, since the page has the picture itself."""
    parts = [asdict(record) for record in records]
    for part, record in zip(parts, records, strict=True):
        part["plots"] = [
            {"alt": plot.alt, "sha256": hashlib.sha256(base64.b64decode(plot.png)).hexdigest()} for plot in record.plots
        ]
    digest = compute_digest([record.digest for record in records])
    return {"stack": stack, "redacted": redacted, "digest": digest, "parts": parts}


def write(records: list[Record], stack: str, redacted: bool) -> Evidence:
    """Write the page and the JSON file below .kennel/evidence."""
    page = FOLDER / f"{stack}{'-redacted' * redacted}.html"
    data = page.with_suffix(".json")
    write_atomically(page, render_page(records, stack, redacted).encode())
    write_atomically(data, (json.dumps(as_data(records, stack, redacted), indent=1) + "\n").encode())
    return Evidence(page, data, records)
