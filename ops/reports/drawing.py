"""The one module that commands import to draw, since matplotlib takes long to load and may not be installed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.capacity.model import Option, Plan
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import write_atomically
from ops.core.output import say
from ops.core.settings import Settings
from ops.core.task import Result
from ops.jobs.tuning import Trial
from ops.releases.trained_model import fetch_model
from ops.reports import results
from ops.reports.results import Results

try:
    from ops.reports import answer_plots, capacity_chart, evidence, html, misclassified, training_plots
except ImportError as error:
    raise OpsError("Drawing needs matplotlib: pip install -e '.[report]'") from error


@dataclass(frozen=True)
class Report:
    """A written report: the HTML page, the PNG of each plot, the metrics of the test split (None: not recorded), what is missing."""

    path: Path
    plots: dict[str, Path]
    metrics: dict[str, float | None]
    missing: tuple[str, ...]


def write_report(account: Account, job: str) -> Report:
    """Write the report of a trained model into its folder. Raises OpsError when there is no such model."""
    folder = fetch_model(account, job)
    found = results.read_results(job, folder)
    pictures, why = misclassified.fetch_wanted_pictures(account, found, results.list_worst_mistakes(found))
    found = found.add_missing(why)
    for sentence in (*found.missing, f"Drawing the report of {job} ..."):
        say(sentence)
    plots = draw_plots(found, pictures, folder)
    path = folder / "report.html"
    write_atomically(path, html.render_report(found, plots).encode())
    metrics = {name: value if math.isfinite(value := found.test(name)) else None for name in html.METRICS}
    return Report(path, plots, metrics, found.missing)


def draw_plots(found: Results, pictures: dict[str, bytes], folder: Path) -> dict[str, Path]:
    """Draw the plots that the results have data for into `folder`; return the PNG of each. `pictures` are files, by name."""
    drawn = {}
    if found.epochs:
        drawn["curves"] = training_plots.draw_curves(found, folder / "curves.png")
    if found.pictures:
        drawn["confusion"] = answer_plots.draw_confusion_matrix(found, folder / "confusion.png")
        drawn["mistakes"] = answer_plots.draw_mistakes(found, pictures, folder / "mistakes.png")
        drawn["calibration"] = answer_plots.draw_calibration(found, folder / "calibration.png")
    return drawn


def draw_trials(trials: list[Trial], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return training_plots.draw_trial_plot(trials, path)


def draw_capacity(plan: Plan, options: list[Option], source: str, path: Path) -> Path:
    """Draw the plan; `source` says where its figures are from. Raises OSError where the file cannot be written."""
    return capacity_chart.draw_capacity_chart(plan, options, source, path)


def list_evidence_commands() -> list[str]:
    """Return the commands whose answers are the evidence."""
    return [part.show_command("JOB") for part in evidence.PARTS]


def write_evidence(read: Callable[[str], Result], settings: Settings, redacted: bool) -> evidence.Evidence:
    """Write the evidence of the stack; `read` returns the result of a command, and raises OpsError."""
    return evidence.write(evidence.collect(read, settings, redacted), settings.stack.name, redacted)
