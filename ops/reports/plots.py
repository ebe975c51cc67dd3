"""Plots where people look rather than read: a trained model's curves, confusions and worst mistakes, and a tuning's trials.

Equal inputs give equal bytes: no times, no versions, no style of whoever draws. Blue is right, orange is wrong, on white;
the two stay apart for the colour-blind and in print.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result, task

if TYPE_CHECKING:
    from ops.reports.results import Results

BLUE, ORANGE, SKY, GREEN, GREY = "#0072B2", "#D55E00", "#56B4E9", "#009E73", "#666666"  # after Okabe and Ito
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", SKY, "#E69F00")
MARKERS = "osD^vPX"  # a batch size has a mark too: colour is never the only difference
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9,
    "text.parse_math": False,  # a class called a$b$c is a name, not a formula
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "savefig.dpi": 120,
}

# A number's names in metrics.jsonl, then label, colour and line style.
Line = tuple[tuple[str, ...], str, str, str]


@task(
    help={
        "job": "A training job's name, of SageMaker or of the box.",
        "open": "Open it in the browser.",
        "json": "Print the paths and the metrics as JSON.",
    }
)
def report(c, job, open=False, json=False):
    """Draw a trained model's curves, confusions and worst mistakes."""
    from ops.releases import build
    from ops.reports import html, misclassified, results

    account = Account.from_context(c)
    folder = build.fetch(account, job)
    found = results.read(job, folder)
    pictures, why = misclassified.files(account, found, results.mistakes(found))
    found = found.noting(why)
    for sentence in (*found.missing, f"Drawing the report of {job} ..."):
        say(sentence)
    drawn = draw(found, pictures, folder)
    path = folder / "report.html"
    kept(path, html.html(found, drawn).encode())
    if open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    metrics = {name: value if math.isfinite(value := found.test(name)) else None for name in html.METRICS}
    data = {"job": job, "report": path, **drawn, "metrics": metrics, "missing": found.missing}
    return Result(data, f"{path}\nNext: invoke sm.deploy --job {job}")


def draw(found: Results, pictures: dict[str, bytes], folder: Path) -> dict[str, Path]:
    """Draw what the results allow into `folder`; the PNG of each plot. `pictures` are files, by name."""
    from ops.reports import answer_plots

    drawn = {}
    if found.epochs:
        drawn["curves"] = curves(found, folder / "curves.png")
    if found.pictures:
        drawn["confusion"] = answer_plots.confusion(found, folder / "confusion.png")
        drawn["mistakes"] = answer_plots.mistakes(found, pictures, folder / "mistakes.png")
        drawn["calibration"] = answer_plots.calibration(found, folder / "calibration.png")
    return drawn


def kept(path: Path, data: bytes) -> None:
    """Write whole or not at all; what was at `path`, a link out of a hostile archive too, is replaced, not followed."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.write_bytes(data)
    part.replace(path)


@contextmanager
def figure(path: Path, width: float, height: float, layout: Any = "constrained") -> Iterator[Any]:
    """A matplotlib Figure of so many inches, which is a PNG at `path` when the block ends. Raises OpsError without matplotlib."""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OpsError("Drawing needs matplotlib: pip install -e '.[report]'") from error
    with warnings.catch_warnings(), style.context(["default", STYLE]):  # the operator's own style stays out
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks, numbers too long: they show as such
        drawing = Figure((width, height), layout=layout)
        yield drawing
        png = io.BytesIO()
        drawing.savefig(png, format="png", metadata={"Software": None})
        kept(path, png.getvalue())


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else "not recorded"


def curves(found: Results, path: Path) -> Path:
    """Loss, shares right, learning rate and speed, each by epoch; the epoch that was kept is marked."""
    from matplotlib.ticker import MaxNLocator

    with figure(path, 11, 7.4) as drawing:
        for panel, plot in zip(drawing.subplots(2, 2).flat, (losses, shares, rates, speeds), strict=True):
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


def logarithmic(panel: Any, axis: str) -> None:
    """A logarithmic axis with plain numbers: matplotlib's own are formulas, and those are switched off."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set(**{f"{axis}scale": "log"})
    ticks = panel.xaxis if axis == "x" else panel.yaxis
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())


def column(found: Results, *name: str) -> tuple[list[float], list[float]]:
    """(epochs, values) of one number of metrics.jsonl, where it is one."""
    from ops.reports.results import number

    both = [(float(line["epoch"]), number(line, *name)) for line in found.epochs]
    both = [(epoch, value) for epoch, value in both if math.isfinite(value)]
    return [epoch for epoch, _ in both], [value for _, value in both]


def at_best(found: Results, *name: str) -> float:
    """The number at the epoch that was kept (they count from 1); NaN when there is none."""
    return dict(zip(*column(found, *name), strict=True)).get(float(found.best or 0), math.nan)


def lines(panel: Any, found: Results, wanted: Sequence[Line]) -> list[float]:
    """Plot some numbers of metrics.jsonl; all values that were there."""
    every: list[float] = []
    for name, label, colour, dashes in wanted:
        epochs, values = column(found, *name)
        if values:
            marker = "o" if len(values) < 40 else ""
            panel.plot(epochs, values, dashes, color=colour, label=label, marker=marker, markersize=3.5)
        every += values
    return every


def losses(panel: Any, found: Results) -> None:
    names = [(("train", "loss"), "train", SKY, "--"), (("valid", "loss"), "valid", BLUE, "-")]
    every = lines(panel, found, names)
    if every and min(every) > 0 and max(every) > 30 * min(every):
        logarithmic(panel, "y")
    least = at_best(found, "valid", "loss")
    panel.set_title(f"Valid loss is {least:.3f} at epoch {found.best}" if math.isfinite(least) else "Loss")
    panel.set_ylabel("cross-entropy (nats)")


def shares(panel: Any, found: Results) -> None:
    from matplotlib.ticker import PercentFormatter

    names = [
        (("train", "accuracy"), "train accuracy", SKY, "--"),
        (("valid", "accuracy"), "valid accuracy", BLUE, "-"),
        (("valid", "macro_f1"), "valid macro F1", GREEN, "-."),
    ]
    if len(found.classes) > 5:  # with fewer, one of five answers is always right
        names.append((("valid", "top5"), "valid top-5", ORANGE, ":"))
    lines(panel, found, names)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    valid, train = at_best(found, "valid", "accuracy"), at_best(found, "train", "accuracy")
    known = math.isfinite(valid)
    panel.set_title(f"{percent(valid, 1)} of valid right, {percent(train, 1)} of train" if known else "Shares right")
    panel.set_ylabel("share of pictures (%)")


def rates(panel: Any, found: Results) -> None:
    every = lines(panel, found, [(("lr",), "", BLUE, "-")])
    panel.set_title(f"Learning rate: at most {max(every):.2g}" if every else "Learning rate: not recorded")
    panel.set_ylim(bottom=0)
    panel.set_ylabel("learning rate")


def speeds(panel: Any, found: Results) -> None:
    """Pictures a second, and how many more it would have been without waiting for data (a share of the training time)."""
    epochs, reached = column(found, "images_per_s")
    waits = dict(zip(*column(found, "data_wait"), strict=True))
    waited = [
        min(max(waits.get(epoch, 0.0), 0.0), 0.9) for epoch in epochs
    ]  # at more, the rest would be too small to see
    panel.bar(epochs, reached, 0.7, color=SKY, label="reached")
    title = f"{sorted(reached)[len(reached) // 2]:,.0f} images/s" if reached else "Images per second: not recorded"
    if seconds := column(found, "seconds")[1]:
        title += f", {sum(seconds) / len(seconds):.1f} s an epoch"
    if waits and reached:
        lost = [rate * share / (1 - share) for rate, share in zip(reached, waited, strict=True)]
        panel.bar(epochs, lost, 0.7, reached, color=ORANGE, label="lost to waiting for data")
        title += f"; {percent(sum(waited) / len(waited))} waiting for data"
    panel.set_title(title)
    panel.set_ylabel("images/s")


def trials(rows: list[dict[str, Any]], path: Path) -> None:
    """A tuning job's trials as a PNG: learning rate across (log), mean valid loss up, batch size by colour and mark.

    `rows` have name, lr, batch, objective (None or NaN: no result) and status. Trials without a result stand along the bottom.
    """
    from ops.reports.results import number

    usable = [row for row in rows if number(row, "lr") > 0 and math.isfinite(number(row, "lr"))]
    done = [row for row in usable if math.isfinite(number(row, "objective"))]
    best = min(done, key=lambda row: (row["objective"], str(row.get("name"))), default=None)
    with figure(path, 8, 5) as drawing:
        panel = drawing.subplots()
        logarithmic(panel, "x")
        scattered(panel, done)
        failed = [row["lr"] for row in usable if row not in done]
        if failed:  # x in learning rates, y in shares of the panel's height
            across = panel.get_xaxis_transform()
            panel.plot(
                failed,
                [0.02] * len(failed),
                "|",
                color=GREY,
                markersize=14,
                transform=across,
                label=f"no result ({len(failed)})",
            )
        if best is not None:
            panel.plot(best["lr"], best["objective"], "o", markersize=17, fillstyle="none", color="black", label="best")
        panel.set_title(best_trial(best, rows))
        panel.set_xlabel("learning rate (log)")
        panel.set_ylabel("mean valid loss (nats)")
        if usable:
            panel.legend(title="batch size", loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1.0)


def scattered(panel: Any, done: list[dict[str, Any]]) -> None:
    """The trials that have a result; log as soon as one is so bad that the good ones would look alike."""
    values = [row["objective"] for row in done]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        logarithmic(panel, "y")
    sizes = sorted({row["batch"] for row in done})
    for place, size in enumerate(sizes):
        some = [row for row in done if row["batch"] == size]
        marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
        xs, ys = [row["lr"] for row in some], [row["objective"] for row in some]
        panel.plot(xs, ys, marker, color=colour, markersize=8, markeredgecolor="white", label=f"{size}")


def best_trial(best: dict[str, Any] | None, rows: list[dict[str, Any]]) -> str:
    if best is None:
        return f"None of {len(rows)} trials has a result" if rows else "No trials yet"
    return f"Best of {len(rows)} trials: loss {best['objective']:.4f} at learning rate {best['lr']:.2g}, batch {best['batch']}"
