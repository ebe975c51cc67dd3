"""The report of a trained model as one HTML file: pictures inside, no scripts, nothing loaded from elsewhere.

Names of classes and files come from strangers: every text goes through `text`, and a policy in the head forbids the rest.
"""

from __future__ import annotations

import base64
import html as escaping
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ops.reports import results
from ops.reports.results import Results, number, shown

METRICS = ("accuracy", "top5", "macro_f1", "calibration_error", "loss", "pictures")
STYLE = """
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1rem 0 .3rem }
p { margin: .4rem 0; max-width: 46rem } .soft { color: #595959 } .bad { color: #a33b00; font-weight: 600 }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0 }
.tile { border: 1px solid #d8d8d8; border-radius: .4rem; padding: .5rem .8rem } .tile b { display: block; font-size: 1.6rem; line-height: 1.3 }
.tile span { font-size: .85rem } .note { border-left: .3rem solid #d55e00; background: #fff6ee; padding: .4rem .8rem; margin: .4rem 0 }
.scroll { overflow-x: auto } img { max-width: 100%; height: auto; display: block } .least img { min-width: 42rem }
.full:checked + label + .scroll img { max-width: none; min-width: 0 } label { cursor: pointer }
table { border-collapse: collapse; font-size: .92rem } td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top;
border-bottom: 1px solid #e6e6e6 } th { font-weight: 600; white-space: nowrap } .facts td { overflow-wrap: anywhere }
.n { text-align: right; white-space: nowrap }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 2rem } summary { cursor: pointer }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
HEAD = f"""<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">"""


def html(found: Results, drawn: dict[str, Path]) -> str:
    """The page; `drawn` has the PNG of each plot: curves, confusion, mistakes, calibration, as far as they could be drawn."""
    parts = [
        f"<h1>{text(found.job)}</h1>",
        summary(found),
        tiles(found),
        "".join(f'<p class="note">{text(sentence, 500)}</p>' for sentence in found.missing),
        facts(found),
        section("Learning", plot(drawn, "curves", "Loss, shares right, learning rate and speed by epoch", "least")),
        section("Confusions", full(plot(drawn, "confusion", "Confusion matrix"), len(found.classes)) + tables(found)),
        section("Worst mistakes", plot(drawn, "mistakes", "Wrong answers of highest loss", "least") + names(found)),
        section("Calibration", plot(drawn, "calibration", "Share right by confidence")),
        section("Settings and versions", settings(found)),
    ]
    title = f"<title>{text(found.job)}: report</title>"
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{HEAD}{title}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'


def text(value: Any, limit: int = 200) -> str:
    """Anything as the text of an element or of an attribute in double quotes."""
    return escaping.escape(shown(value, limit))


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "not recorded"


def section(name: str, content: str) -> str:
    return f"<h2>{name}</h2>\n{content}" if content else ""


def plot(drawn: dict[str, Path], name: str, alt: str, kind: str = "") -> str:
    if name not in drawn:
        return ""
    data = base64.b64encode(drawn[name].read_bytes()).decode()
    return f'<div class="scroll {kind}"><img alt="{text(alt)}" src="data:image/png;base64,{data}"></div>'


def full(picture: str, classes: int) -> str:
    """With a box to tick that shows it pixel by pixel: 133 classes do not fit a screen, and there are no scripts."""
    if not picture or classes <= 20:
        return picture
    return f'<input type="checkbox" class="full" id="full"><label for="full"> full size, to scroll in</label>{picture}'


def rows(head: Sequence[str], body: Iterable[Sequence[Any]], figures: int = 0) -> str:
    """A table; its last `figures` columns are numbers. Cells are escaped here, and nowhere else."""
    first = len(head) - figures

    def line(cells: Sequence[Any], tag: str) -> str:
        each = (f"<{tag}{' class=n' if at >= first else ''}>{broken(cell)}</{tag}>" for at, cell in enumerate(cells))
        return f"<tr>{''.join(each)}</tr>"

    return f'<div class="scroll"><table>{line(head, "th") if any(head) else ""}{"".join(line(row, "td") for row in body)}</table></div>'


def broken(cell: Any) -> str:
    """A cell's text, which may go on in the next line after an underscore: a phone is narrower than a breed's name."""
    return text(cell).replace("_", "_<wbr>")


def summary(found: Results) -> str:
    """What the model is, in one line."""
    card = found.card
    trained = f", {len(found.epochs)} epochs, weights of epoch {found.best} kept" if found.best is not None else ""
    return f'<p class="soft">{text(card.get("arch"))}, {len(found.classes)} classes{trained}</p>'


def tiles(found: Results) -> str:
    """The headline numbers of the test split."""
    pictures, accuracy = found.test("pictures"), found.test("accuracy")
    open_ends = "of the test split"
    if math.isfinite(pictures) and math.isfinite(accuracy):
        low, high = results.interval(round(accuracy * pictures), int(pictures))
        open_ends = f"of {pictures:.0f} test pictures; 95 % interval {100 * low:.1f} to {100 * high:.1f}"
    five = "always, with so few classes" if len(found.classes) <= 5 else "the class is among the first five"
    error, loss = found.test("calibration_error"), found.test("loss")
    shown_ones = (
        ("accuracy", percent(accuracy), open_ends),
        ("top-5 accuracy", percent(found.test("top5")), five),
        ("macro F1", fixed(found.test("macro_f1")), "mean over classes, 1 is perfect"),
        ("calibration error", fixed(error), "confidence against share right, 0 is perfect"),
        ("test loss", fixed(loss), "cross-entropy, nats"),
    )
    each = (
        f'<div class="tile">{name}<b>{value}</b><span class="soft">{text(more)}</span></div>'
        for name, value, more in shown_ones
    )
    return f'<div class="tiles">{"".join(each)}</div>'


def fixed(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not recorded"


def facts(found: Results) -> str:
    """Where the model comes from, and whether it may be trusted to come from there."""
    card = found.card
    commit = str(card.get("commit", "not recorded"))
    marked = text(commit)
    if commit.endswith("-dirty"):
        marked += ' <span class="bad">dirty: files differed from this commit</span>'
    elif commit == "unknown":
        marked = '<span class="bad">unknown: trained from no git checkout</span>'
    each = {
        "job": text(found.job),
        "data": text(card.get("data", "not recorded")),
        "commit": marked,
        "processes": text(card.get("processes", "not recorded")),
        "device": text(card.get("device", "not recorded")),
        "ledger": ledger(found),
    }
    return (
        '<table class="facts">'
        + "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in each.items())
        + "</table>"
    )


def ledger(found: Results) -> str:
    """Whether every picture was trained on exactly once an epoch, but for what fills the last batch up."""
    if found.ledger is None:
        return '<span class="soft">not recorded</span>'
    counts = {name: number(found.ledger, name) for name in ("pictures", "overlap", "padding")}
    told = ", ".join(f"{name} {count:.0f}" for name, count in counts.items() if math.isfinite(count))
    if found.ledger.get("complete") is True and not counts["overlap"] > counts["padding"]:
        return f"complete: each picture exactly once an epoch, but for what fills up the last batch ({told})"
    return f'<span class="bad">not complete: not every picture was trained on exactly once an epoch</span> ({told})'


def tables(found: Results) -> str:
    """The most confused pairs, and the classes that are recognised least."""
    confused = [
        (label, said, f"{times} of {of}", percent(times / of)) for label, said, times, of in results.pairs(found)
    ]
    left = (
        f"<h3>Most confused</h3>{rows(('is', 'was taken for', 'times', 'of its class'), confused, 2)}"
        if confused
        else ""
    )
    if found.pictures:
        each = [one for one in results.recalls(found) if one.right < one.pictures][:10]
        least = [(one.label, one.mostly or "-", f"{one.right} of {one.pictures}", percent(one.share)) for one in each]
        right = rows(("class", "mostly taken for", "right", "recall"), least, 2) if least else ""
    else:
        known = [(name, percent(value)) for name, value in least_known(found)]
        right = rows(("class", "recall"), known, 1) if known else ""
    both = [left, f"<h3>Least recall</h3>{right}" if right else ""]
    return f'<div class="two">{"".join(f"<div>{one}</div>" for one in both if one)}</div>' if any(both) else ""


def least_known(found: Results) -> list[tuple[str, float]]:
    """The ten least of model.json's recalls, for models without predictions.jsonl."""
    value: Any = found.card
    for name in ("metrics", "test", "recall"):
        value = value.get(name) if isinstance(value, dict) else None
    each = [(str(name), number(one)) for name, one in value.items()] if isinstance(value, dict) else []
    return sorted((one for one in each if math.isfinite(one[1])), key=lambda one: (one[1], one[0]))[:10]


def names(found: Results) -> str:
    """The names of the sheet's pictures, to be copied."""
    wrong = results.mistakes(found)
    if not wrong:
        return ""
    body = [(p.name, p.label, p.said, percent(p.probability), fixed(p.loss)) for p in wrong]
    return f"<details><summary>their files</summary>{rows(('file', 'is', 'said', 'probability', 'loss'), body, 2)}</details>"


def settings(found: Results) -> str:
    """What it was trained with, in tables."""

    def one(name: str) -> str:
        value = found.card.get(name)
        held = rows(("", ""), sorted(value.items())) if isinstance(value, dict) else ""
        return f"<h3>{name.capitalize()}</h3>{held}" if held else ""

    return f'<div class="two"><div>{one("settings")}</div><div>{one("preprocess")}{one("versions")}</div></div>'
