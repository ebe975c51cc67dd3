"""Plot training: a trained model's curves by epoch, and a tuning job's trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from ops.jobs.tuning import Trial
from ops.releases.trained_model import read_number
from ops.reports.plot_style import BLUE, COLOURS, GREEN, GREY, MARKERS, ORANGE, SKY, format_percent, open_figure
from ops.reports.results import Results

# A number's names in metrics.jsonl, then label, colour and line style.
Line = tuple[tuple[str, ...], str, str, str]


def draw_curves(found: Results, path: Path) -> Path:
    """Draw loss, accuracy, learning rate and speed, each by epoch, and mark the epoch whose weights were kept."""
    with open_figure(path, 11, 7.4) as drawing:
        for panel, plot in zip(
            drawing.subplots(2, 2).flat, (plot_losses, plot_accuracy, plot_learning_rate, plot_speed), strict=True
        ):
            plot(panel, found)
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            numbers = [line["epoch"] for line in found.epochs]
            panel.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
            if found.best is not None:
                panel.axvline(found.best, color=GREY, linestyle=":", label=f"kept: epoch {found.best}")
            if panel.get_legend_handles_labels()[1]:
                panel.legend(fontsize=8)
    return path


def set_log_axis(panel: Any, axis: str) -> None:
    """Set a logarithmic axis with plain numbers: matplotlib's own labels are formulas, which our style does not render."""
    panel.set(**{f"{axis}scale": "log"})
    ticks = panel.xaxis if axis == "x" else panel.yaxis
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())


def read_column(found: Results, *name: str) -> tuple[list[float], list[float]]:
    """Return (epochs, values) of one number of metrics.jsonl, without the lines that lack it."""
    both = [(float(line["epoch"]), read_number(line, *name)) for line in found.epochs]
    both = [(epoch, value) for epoch, value in both if math.isfinite(value)]
    return [epoch for epoch, _ in both], [value for _, value in both]


def find_best_value(found: Results, *name: str) -> float:
    """Return the number at the epoch whose weights were kept (epochs count from 1); NaN when there is none."""
    return dict(zip(*read_column(found, *name), strict=True)).get(float(found.best or 0), math.nan)


def plot_lines(panel: Any, found: Results, wanted: Sequence[Line]) -> list[float]:
    """Plot some numbers of metrics.jsonl; return all values that it has."""
    every: list[float] = []
    for name, label, colour, dashes in wanted:
        epochs, values = read_column(found, *name)
        if values:
            marker = "o" if len(values) < 40 else ""
            panel.plot(epochs, values, dashes, color=colour, label=label, marker=marker, markersize=3.5)
        every += values
    return every


def plot_losses(panel: Any, found: Results) -> None:
    names = [(("train", "loss"), "train", SKY, "--"), (("valid", "loss"), "valid", BLUE, "-")]
    every = plot_lines(panel, found, names)
    if every and min(every) > 0 and max(every) > 30 * min(every):
        set_log_axis(panel, "y")
    least = find_best_value(found, "valid", "loss")
    panel.set_title(f"Valid loss {least:.3f} at epoch {found.best}" if math.isfinite(least) else "Loss")
    panel.set_ylabel("cross-entropy (nats)")


def plot_accuracy(panel: Any, found: Results) -> None:
    names = [
        (("train", "accuracy"), "train accuracy", SKY, "--"),
        (("valid", "accuracy"), "valid accuracy", BLUE, "-"),
        (("valid", "macro_f1"), "valid macro F1", GREEN, "-."),
    ]
    if len(found.classes) > 5:  # with at most five classes, top-5 is always right
        names.append((("valid", "top5"), "valid top-5", ORANGE, ":"))
    plot_lines(panel, found, names)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    valid, train = find_best_value(found, "valid", "accuracy"), find_best_value(found, "train", "accuracy")
    known = math.isfinite(valid)
    panel.set_title(
        f"Accuracy: valid {format_percent(valid, 1)}, train {format_percent(train, 1)}" if known else "Accuracy"
    )
    panel.set_ylabel("share of pictures (%)")


def plot_learning_rate(panel: Any, found: Results) -> None:
    every = plot_lines(panel, found, [(("lr",), "", BLUE, "-")])
    panel.set_title(f"Learning rate: at most {max(every):.2g}" if every else "Learning rate: not recorded")
    panel.set_ylim(bottom=0)
    panel.set_ylabel("learning rate")


def plot_speed(panel: Any, found: Results) -> None:
    """Plot pictures a second, and how many more there would be without waiting for data (a share of the training time)."""
    epochs, reached = read_column(found, "images_per_s")
    waits = dict(zip(*read_column(found, "data_wait"), strict=True))
    waited = [
        min(max(waits.get(epoch, 0.0), 0.0), 0.9) for epoch in epochs
    ]  # with a larger share, the rest would be too small to see
    panel.bar(epochs, reached, 0.7, color=SKY, label="reached")
    title = f"{sorted(reached)[len(reached) // 2]:,.0f} images/s" if reached else "Images per second: not recorded"
    if seconds := read_column(found, "seconds")[1]:
        title += f", {sum(seconds) / len(seconds):.1f} s an epoch"
    if waits and reached:
        lost = [rate * share / (1 - share) for rate, share in zip(reached, waited, strict=True)]
        panel.bar(epochs, lost, 0.7, reached, color=ORANGE, label="lost to waiting for data")
        title += f"; {format_percent(sum(waited) / len(waited))} waiting for data"
    panel.set_title(title)
    panel.set_ylabel("images/s")


def draw_trial_plot(found: list[Trial], path: Path) -> Path:
    """Draw a tuning job's trials as a PNG: x is the learning rate (log), y the mean valid loss, colour and marker the batch size.

    Trials without a result are marked along the bottom.
    """
    usable = [trial for trial in found if trial.lr > 0 and math.isfinite(trial.lr)]
    done = [trial for trial in usable if math.isfinite(read_loss(trial))]
    best = min(done, key=lambda trial: (read_loss(trial), trial.name), default=None)
    with open_figure(path, 8, 5) as drawing:
        panel = drawing.subplots()
        set_log_axis(panel, "x")
        plot_finished_trials(panel, done)
        failed = [trial.lr for trial in usable if trial not in done]
        if failed:  # x in learning rates, y in shares of the panel's height
            panel.plot(
                failed,
                [0.02] * len(failed),
                "|",
                color=GREY,
                markersize=14,
                transform=panel.get_xaxis_transform(),
                label=f"no result ({len(failed)})",
            )
        if best is not None:
            panel.plot(best.lr, best.objective, "o", markersize=17, fillstyle="none", color="black", label="best")
        panel.set_title(format_trials_title(best, len(found)))
        panel.set_xlabel("learning rate (log)")
        panel.set_ylabel("mean valid loss (nats)")
        if usable:
            panel.legend(title="batch size", loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1.0)
    return path


def read_loss(trial: Trial) -> float:
    """Return the trial's valid loss; NaN for a trial without a result."""
    return math.nan if trial.objective is None else trial.objective


def plot_finished_trials(panel: Any, done: list[Trial]) -> None:
    """Plot the trials that have a result; use a log scale when one is so bad that the good ones would look alike."""
    values = [read_loss(trial) for trial in done]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        set_log_axis(panel, "y")
    sizes = sorted({trial.batch for trial in done})
    for place, size in enumerate(sizes):
        some = [trial for trial in done if trial.batch == size]
        marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
        xs, ys = [trial.lr for trial in some], [trial.objective for trial in some]
        panel.plot(xs, ys, marker, color=colour, markersize=8, markeredgecolor="white", label=f"{size}")


def format_trials_title(best: Trial | None, count: int) -> str:
    """Return the title over `count` trials."""
    if best is None:
        return f"No result yet from {count} trials" if count else "No trials yet"
    return f"Best of {count} trials: loss {best.objective:.4f} at learning rate {best.lr:.2g}, batch {best.batch}"
