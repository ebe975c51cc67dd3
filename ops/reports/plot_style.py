"""The style of every plot: colours, fonts, and the figure that becomes a PNG.

Equal inputs give equal bytes: plots contain no times and no versions, and ignore the operator's own style. Blue is right,
orange is wrong, on white: colour-blind readers and greyscale prints can tell the two apart.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from ops.core.files import write_atomically

BLUE, ORANGE, SKY, GREEN, GREY = "#0072B2", "#D55E00", "#56B4E9", "#009E73", "#666666"  # after Okabe and Ito
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", SKY, "#E69F00")
MARKERS = "osD^vPX"  # each batch size has its own marker too: colour is never the only difference
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


@contextmanager
def open_figure(path: Path, width: float, height: float, layout: Any = "constrained") -> Iterator[Any]:
    """Yield a matplotlib Figure of so many inches; save it as a PNG at `path` when the block ends."""
    with warnings.catch_warnings(), style.context(["default", STYLE]):  # ignore the operator's own style
        warnings.simplefilter(
            "ignore", UserWarning
        )  # letters that the font lacks, or numbers that are too long, are visible in the plot
        drawing = Figure((width, height), layout=layout)
        yield drawing
        png = io.BytesIO()
        drawing.savefig(png, format="png", metadata={"Software": None})
        write_atomically(path, png.getvalue())


def format_percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else "not recorded"
