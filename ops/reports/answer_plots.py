"""Plot a model's answers to the test split: confusion matrix, worst mistakes, calibration."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import PercentFormatter

from ops.reports import results
from ops.reports.misclassified import make_thumbnail
from ops.reports.plot_style import BLUE, GREY, ORANGE, SKY, format_percent, open_figure
from ops.reports.results import Picture, Results, make_printable_label

COLUMNS, TILE = 5, 2.3  # of the sheet of mistakes: pictures per row, inches per picture
COUNTED = 20  # the largest number of classes for which each cell of the confusion matrix shows its count
LABEL = 28  # letters of a class's name beside the matrix
RIGHT = ("#dbe9f6", BLUE, "#08264d")  # from a few to all pictures of a class: blue when right, orange when wrong
WRONG = ("#fde3cc", ORANGE, "#6b2400")
TICKS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def draw_confusion_matrix(found: Results, path: Path) -> Path:
    """Draw the confusion matrix, with a row for each true class, each row 100 %; readable from 2 classes to some 150."""
    classes, counts = found.classes, results.count_confusions(found)
    size = len(classes)
    cell = max(min(24 / size, 0.15), min(5.5 / size, 1.5))  # inches
    points = max(2.0, min(9.0, cell * 72 * 0.62))
    labels = [f"{make_printable_label(name, LABEL)} ({sum(row)})" for name, row in zip(classes, counts, strict=True)]
    letter = points * 0.62 / 72  # inches
    edge, below = max(map(len, labels)) * letter + 0.45, min(LABEL, max(map(len, classes))) * letter + 0.55
    side, bar = cell * size, 1.9
    width = edge + side + bar
    top = below + 0.6 if size > COUNTED * 2 else 0.9
    height, large = below + side + top, max(10.0, width * 0.7)
    with open_figure(path, width, height, layout=None) as drawing:
        panel = drawing.add_axes((edge / width, below / height, side / width, side / height))
        draw_cells(panel, counts)
        draw_labels_and_lines(panel, classes, labels, points)
        panel.set_xlabel("predicted class", fontsize=large)
        panel.set_ylabel("true class (test pictures)", fontsize=large)
        for row, cells in enumerate(counts):
            recall = format_percent(cells[row] / sum(cells)) if sum(cells) else "none"
            panel.text(size - 0.4, row, recall, va="center", fontsize=points, color="black" if sum(cells) else GREY)
        panel.text(size - 0.4, -0.6, "recall", fontsize=max(points, 7), color=GREY, va="bottom")
        tall = min(side, 4.0)
        draw_colour_scales(
            drawing,
            ((edge + side + 0.6) / width, (below + side - tall) / height, 0.15 / width, tall / height),
            0.32 / width,
        )
        title = textwrap.fill(format_confusion_title(found), int((width - 0.3) * 120 / (large + 1)))
        drawing.text(0.15 / width, 1 - 0.12 / height, title, va="top", fontsize=large + 1, fontweight="bold")
    return path


def format_confusion_title(found: Results) -> str:
    text = f"{found.right} of {len(found.pictures)} test pictures classified correctly"
    most = results.list_confused_pairs(found, 1)
    if not most:
        return text
    label, predicted, times, total = most[0]
    truth, answer = (make_printable_label(name, LABEL) for name in (label, predicted))
    return f'{text}; most confused: "{truth}" predicted as "{answer}", {times} of {total}'


def draw_cells(panel: Any, counts: list[list[int]]) -> None:
    """Draw the shares of each row in colour; up to COUNTED classes the counts too. Empty cells stay white."""
    nan = float("nan")
    size = len(counts)
    share = [[count / sum(row) if count else nan for count in row] for row in counts]
    right = [[share[i][j] if i == j else nan for j in range(size)] for i in range(size)]
    wrong = [[nan if i == j else share[i][j] for j in range(size)] for i in range(size)]
    for part, colours in ((right, RIGHT), (wrong, WRONG)):
        panel.imshow(part, cmap=build_colour_ramp(colours), norm=build_colour_norm(), interpolation="nearest")
    if size <= COUNTED:
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    panel.text(
                        j, i, str(count), ha="center", va="center", color="white" if share[i][j] > 0.2 else "black"
                    )


def build_colour_ramp(colours: tuple[str, ...]) -> Any:
    return LinearSegmentedColormap.from_list("", colours)


def build_colour_norm() -> Any:
    """Return a square-root scale from 0 to 1: one mistake among fifty is still visible, and 40 % still differs from 80 %."""
    return PowerNorm(0.5, 0, 1)


def draw_labels_and_lines(panel: Any, classes: list[str], labels: list[str], points: float) -> None:
    """Draw names and lines. With many classes, names are repeated above, and every tenth line is stronger to guide the eye."""
    size = len(labels)
    step = max(1, round(5 / points)) if points < 5 else 1
    shortened = [make_printable_label(name, LABEL) for name in classes]
    panel.set_xticks(range(0, size, step), shortened[::step], rotation=90, fontsize=points)
    panel.set_yticks(range(0, size, step), labels[::step], fontsize=points)
    panel.tick_params(length=0, labeltop=size > COUNTED * 2)
    if size > COUNTED * 2:
        for label in panel.get_xticklabels():
            label.set_rotation(90)
    panel.spines[:].set_visible(True)
    panel.spines[:].set_color("#bbbbbb")
    panel.grid(False)
    for place in range(1, size):
        strong = size > COUNTED and place % 10 == 0
        if step == 1 or strong:
            colour, width = ("#b0b0b0", 0.7) if strong else ("#efefef", 0.4)
            panel.axhline(place - 0.5, color=colour, linewidth=width)
            panel.axvline(place - 0.5, color=colour, linewidth=width)


def draw_colour_scales(drawing: Any, box: tuple[float, float, float, float], apart: float) -> None:
    """Draw the two colour scales, side by side in `box` of the figure (left, bottom, width, height)."""
    left, bottom, width, height = box
    for place, (colours, name) in enumerate(((RIGHT, "right"), (WRONG, "wrong"))):
        panel = drawing.add_axes((left + place * apart, bottom, width, height))
        bar = drawing.colorbar(ScalarMappable(build_colour_norm(), build_colour_ramp(colours)), cax=panel)
        bar.set_ticks(
            TICKS if place else [], labels=[format_percent(tick) for tick in TICKS] if place else [], fontsize=8
        )
        panel.set_title(name, fontsize=8, fontweight="normal", loc="center", rotation=90)
        if place:
            bar.set_label("share of the class's pictures", fontsize=8)


def draw_calibration(found: Results, path: Path) -> Path:
    """Draw accuracy by confidence, and how many answers each group has; error bars are 95 % intervals."""
    bins = results.group_by_confidence(found)
    with open_figure(path, 6.5, 6.5) as drawing:
        upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfect calibration")
        if bins:
            confidence, right = [one.confidence for one in bins], [one.right / one.pictures for one in bins]
            ranges = [results.compute_interval(one.right, one.pictures) for one in bins]
            below = [max(0.0, share - low) for share, (low, _) in zip(right, ranges, strict=True)]
            above = [max(0.0, high - share) for share, (_, high) in zip(right, ranges, strict=True)]
            upper.errorbar(
                confidence,
                right,
                [below, above],
                fmt="o",
                color=BLUE,
                capsize=3,
                label="answers, grouped by confidence",
            )
            lower.bar(confidence, [one.pictures for one in bins], 0.05, color=SKY)
        upper.set_title(format_calibration_title(bins))
        upper.set_ylabel("accuracy (%)")
        lower.set_ylabel("pictures")
        lower.set_xlabel("confidence: probability of the predicted class (%)")
        for axis in (upper.yaxis, upper.xaxis):
            axis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        upper.set_xlim(0, 1.03)
        upper.set_ylim(-0.02, 1.02)
        upper.legend(loc="upper left")
    return path


def format_calibration_title(bins: list[results.Bin]) -> str:
    count = sum(one.pictures for one in bins)
    if not count:
        return "No probabilities were recorded"
    confidence = sum(one.confidence * one.pictures for one in bins) / count
    right = sum(one.right for one in bins)
    low, high = results.compute_interval(right, count)
    verdict = "over-confident" if confidence > high else "under-confident" if confidence < low else "calibrated"
    return f"Mean confidence {format_percent(confidence)}, accuracy {format_percent(right / count)}: {verdict}"


def draw_mistakes(found: Results, worst: dict[str, bytes], path: Path) -> Path:
    """Draw a sheet of the wrong answers of the highest loss, with a grey tile where `worst` has no picture of that name."""
    wrong = results.list_worst_mistakes(found)
    rows = -(-len(wrong) // COLUMNS)
    height = rows * (TILE + 0.75) + 0.6
    with open_figure(path, COLUMNS * (TILE + 0.25), height, layout=None) as drawing:
        drawing.text(
            0.012, 1 - 0.15 / height, format_mistakes_title(found, len(wrong)), va="top", fontsize=11, fontweight="bold"
        )
        grid = drawing.add_gridspec(
            max(rows, 1),
            COLUMNS,
            left=0.012,
            right=0.988,
            top=1 - 1.0 / height,
            bottom=0.25 / height,
            hspace=0.33,
            wspace=0.1,
        )
        for place, picture in enumerate(wrong):
            draw_tile(
                drawing.add_subplot(grid[divmod(place, COLUMNS)]), picture, make_thumbnail(worst.get(picture.name))
            )
    return path


def format_mistakes_title(found: Results, count: int) -> str:
    wrong = len(found.pictures) - found.right
    if not wrong:
        return f"No mistakes among {len(found.pictures)} test pictures"
    return f"The worst {count} of {wrong} mistakes among {len(found.pictures)} test pictures, by loss"


def draw_tile(panel: Any, picture: Picture, image: Any) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)
    if image is None:
        panel.set_facecolor("#eeeeee")
        panel.set_box_aspect(1)
        panel.text(0.5, 0.5, "no picture", ha="center", va="center", color=GREY, transform=panel.transAxes)
    else:  # in the middle of a square, so that captions stand in line
        half, wide, high = max(image.size) / 2, image.width / 2, image.height / 2
        smooth = "nearest" if half < 50 else "antialiased"
        panel.imshow(image, interpolation=smooth, extent=(-wide, wide, -high, high))
        panel.set(xlim=(-half, half), ylim=(-half, half), facecolor="#f2f2f2")
    above = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    panel.annotate(
        f"true: {make_printable_label(picture.label, 24)}", (0, 1), (0, 16), color=BLUE, fontweight="bold", **above
    )
    predicted = f"predicted: {make_printable_label(picture.predicted, 14)}, {format_percent(picture.probability)}"
    panel.annotate(predicted, (0, 1), (0, 4), color="#a84300", **above)
    name = f"{make_printable_label(picture.name.rpartition('/')[2], 24)}  loss {picture.loss:.2f}"
    panel.annotate(name, (0, 0), (0, -10), color=GREY, fontsize=7.5, **above)
