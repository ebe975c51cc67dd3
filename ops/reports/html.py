"""The report of a trained model as one HTML file, which embeds its pictures, has no scripts, and loads nothing else.

Names of classes and files are untrusted: report.html.j2 escapes every text, and its filter `label` removes unprintable characters.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ops.releases.trained_model import read_number
from ops.reports import results
from ops.reports.results import Results, make_printable_label

TEMPLATE = Path(__file__).with_name("report.html.j2")
METRICS = ("accuracy", "top5", "macro_f1", "calibration_error", "loss", "pictures")
PLOTS = ("curves", "confusion", "mistakes", "calibration")
SECTIONS = ("settings", "preprocess", "versions")  # of model.json


@dataclass(frozen=True)
class Tile:
    """A headline number, with its name and a note that explains it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Fact:
    """A fact that the page shows: `warning` is a reason not to trust it, `placeholder` replaces a missing text, `details` come last."""

    text: str = ""
    warning: str = ""
    placeholder: str = ""
    details: str = ""


def render_report(found: Results, drawn: dict[str, Path]) -> str:
    """Return the page; `drawn` has the PNG of each plot that exists: curves, confusion, mistakes, calibration."""
    least_head, least, least_figures = find_least_recalled(found)
    return open_template(TEMPLATE).render(
        job=found.job,
        arch=found.card.get("arch"),
        classes=len(found.classes),
        trained=f", {len(found.epochs)} epochs, weights of epoch {found.best} kept" if found.best is not None else "",
        tiles=build_tiles(found),
        missing=found.missing,
        facts=facts(found),
        plots={name: read_as_base64(drawn[name]) if name in drawn else "" for name in PLOTS},
        confused=[
            (label, predicted, f"{n} of {total}", format_percent(n / total))
            for label, predicted, n, total in results.list_confused_pairs(found)
        ],
        least_head=least_head,
        least=least,
        least_figures=least_figures,
        mistakes=[
            (p.name, p.label, p.predicted, format_percent(p.probability), format_decimal(p.loss))
            for p in results.list_worst_mistakes(found)
        ],
        tables={name: read_section(found, name) for name in SECTIONS},
    )


def open_template(path: Path) -> Template:
    """Return a template that escapes every text; its filter `label` removes unprintable characters."""
    jinja = Environment(
        loader=FileSystemLoader(path.parent), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    jinja.filters["label"] = lambda value, limit=200: make_printable_label(value, limit)
    return jinja.get_template(path.name)


def read_as_base64(png: Path) -> str:
    return base64.b64encode(png.read_bytes()).decode()


def format_percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "not recorded"


def format_decimal(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not recorded"


def build_tiles(found: Results) -> list[Tile]:
    """Return the headline numbers of the test split."""
    pictures, accuracy = found.test("pictures"), found.test("accuracy")
    tested = "of the test split"
    if math.isfinite(pictures) and math.isfinite(accuracy):
        low, high = results.compute_interval(round(accuracy * pictures), int(pictures))
        tested = f"of {pictures:.0f} test pictures; 95 % interval {100 * low:.1f} to {100 * high:.1f}"
    five = "always 100 % with at most 5 classes" if len(found.classes) <= 5 else "true class among the top five"
    error, loss = found.test("calibration_error"), found.test("loss")
    return [
        Tile("accuracy", format_percent(accuracy), tested),
        Tile("top-5 accuracy", format_percent(found.test("top5")), five),
        Tile("macro F1", format_decimal(found.test("macro_f1")), "mean over classes, 1 is perfect"),
        Tile("calibration error", format_decimal(error), "gap between confidence and accuracy, 0 is perfect"),
        Tile("test loss", format_decimal(loss), "cross-entropy, nats"),
    ]


def facts(found: Results) -> dict[str, Fact]:
    """Return where the model comes from, with warnings where that is uncertain."""
    card = found.card
    commit = str(card.get("commit", "not recorded"))
    dirty = "dirty: files differed from this commit" if commit.endswith("-dirty") else ""
    unknown = Fact(warning="unknown: not trained from a Git checkout")
    return {
        "job": Fact(found.job),
        "data": Fact(str(card.get("data", "not recorded"))),
        "commit": unknown if commit == "unknown" else Fact(commit, warning=dirty),
        "processes": Fact(str(card.get("processes", "not recorded"))),
        "device": Fact(str(card.get("device", "not recorded"))),
        "ledger": describe_ledger(found),
    }


def describe_ledger(found: Results) -> Fact:
    """Report whether every picture was used exactly once per epoch, except for those repeated to fill the last batch."""
    if found.ledger is None:
        return Fact(placeholder="not recorded")
    counts = {name: read_number(found.ledger, name) for name in ("pictures", "overlap", "padding")}
    counted = ", ".join(f"{name} {count:.0f}" for name, count in counts.items() if math.isfinite(count))
    if found.ledger.get("complete") is True and not counts["overlap"] > counts["padding"]:
        return Fact(
            f"complete: each picture was used once per epoch, except for repeats that fill the last batch ({counted})"
        )
    return Fact(warning="incomplete: not every picture was used exactly once per epoch", details=f"({counted})")


def find_least_recalled(found: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]], int]:
    """Return the table of the classes with the lowest recall: its head, its rows, how many columns are numbers."""
    if found.pictures:
        each = [one for one in results.compute_recalls(found) if one.right < one.pictures][:10]
        rows = [
            (one.label, one.mostly or "-", f"{one.right} of {one.pictures}", format_percent(one.share)) for one in each
        ]
        return ("class", "mostly predicted as", "right", "recall"), [*rows], 2
    return ("class", "recall"), [(name, format_percent(value)) for name, value in read_least_recalls(found)], 1


def read_least_recalls(found: Results) -> list[tuple[str, float]]:
    """Return the ten lowest of model.json's recalls, for models without predictions.jsonl."""
    value: Any = found.card
    for name in ("metrics", "test", "recall"):
        value = value.get(name) if isinstance(value, dict) else None
    each = [(str(name), read_number(one)) for name, one in value.items()] if isinstance(value, dict) else []
    return sorted((one for one in each if math.isfinite(one[1])), key=lambda one: (one[1], one[0]))[:10]


def read_section(found: Results, name: str) -> list[tuple[str, Any]]:
    """Return the names and values that model.json has below `name`."""
    value = found.card.get(name)
    return sorted(value.items()) if isinstance(value, dict) else []
