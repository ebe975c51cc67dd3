"""Draw the capacity of function and endpoint as one picture: what the function admits, what scaling plans for, and what it costs."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.ticker import MaxNLocator

from ops.capacity.model import Option, Plan, describe_call_limit, format_rate, format_ratio
from ops.reports.plot_style import BLUE, GREEN, GREY, ORANGE, SKY, open_figure

WIDTH, HEIGHT = 10, 5  # inches; 1200 x 600 at 120 dots an inch (plot_style.py)
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # the background of words that a line would cross
LARGE, SMALL = 13, 10.5  # points: legible even when the picture is shown 800 pixels wide


def draw_capacity_chart(plan: Plan, options: list[Option], source: str, path: Path) -> Path:
    """Draw a PNG of 1200 x 600 at `path`; `source` says where the figures are from."""
    with open_figure(path, WIDTH, HEIGHT) as drawing:
        drawing.get_layout_engine().set(w_pad=0.12, h_pad=0.1, wspace=0.04)
        left, right = drawing.subplots(1, 2, width_ratios=(2, 1))
        draw_rates(left, plan)
        draw_prices(right, plan, options)
        drawing.suptitle(format_headline(plan), x=0.012, ha="left", fontsize=LARGE, fontweight="bold")
        drawing.supxlabel(
            fill(f"{source} Other types: by vCPUs, an estimate.", 150), x=0.012, ha="left", fontsize=8.5, color=GREY
        )
    return path


def format_headline(plan: Plan) -> str:
    admits = f"The function admits {format_rate(plan.admitted)} requests a minute"
    if not plan.exceeds:
        return f"{admits}; scaling plans for {plan.covered:,}"
    return f"{admits}, {format_ratio(plan.admitted / plan.covered)} times the {plan.covered:,} that scaling plans for"


def draw_rates(panel: Any, plan: Plan) -> None:
    """Draw four bars in requests a minute; the endpoint's dark part is the smallest fleet, the light part the largest."""
    rows = [
        (f"Function admits: {describe_call_limit(plan)}", 0.0, ORANGE),
        (f"Endpoint, current target: {plan.as_set:,} an instance", float(plan.as_set), BLUE),
        (f"Endpoint, advised target: {plan.target:,} an instance", float(plan.target), GREEN),
        (f"Endpoint, limit: {format_rate(plan.limit)} an instance", plan.limit, GREY),
    ]
    end = max(plan.admitted, plan.most * plan.limit, plan.covered)
    for place, (words, each, colour) in enumerate(rows):
        low, high = (plan.least * each, plan.most * each) if each else (plan.admitted, plan.admitted)
        panel.barh(place, high, 0.42, color=colour, alpha=0.4)
        panel.barh(place, low, 0.42, color=colour)
        text = f"{format_rate(low)} to {format_rate(high)}" if low < high else format_rate(high)
        panel.text(high + end * 0.012, place, text, va="center", fontsize=SMALL, fontweight="bold", bbox=CLEAR)
        panel.text(0, place - 0.28, words, va="bottom", fontsize=SMALL, bbox=CLEAR)
    panel.axvline(plan.admitted, 0, 0.9, color=ORANGE, linestyle="--", linewidth=1.2, zorder=0)
    if plan.exceeds:
        draw_gap(panel, plan, end)
    panel.set(xlim=(0, end * 1.27), ylim=(3.45, -0.75), yticks=[])
    panel.set_xlabel(format_fleet_label(plan), fontsize=SMALL)
    panel.spines["left"].set_visible(False)
    style_x_axis(panel, 8)


def format_fleet_label(plan: Plan) -> str:
    if plan.least == plan.most:
        return f"requests a minute ({plan.most} instances)"
    return f"requests a minute (dark: {plan.least} instance{'s' * (plan.least > 1)}, light: up to {plan.most})"


def draw_gap(panel: Any, plan: Plan, end: float) -> None:
    """Draw the gap between what the function admits and what scaling plans for, as an arrow."""
    height, middle = 1.36, max((plan.admitted + plan.covered) / 2, end * 0.05)
    style = {"arrowstyle": "<->", "color": ORANGE, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    panel.annotate("", (plan.admitted, height), (plan.covered, height), arrowprops=style)
    ratio = f"{format_ratio(plan.admitted / plan.covered)} times"
    panel.text(
        middle, height, ratio, color=ORANGE, fontsize=SMALL, fontweight="bold", va="center", ha="center", bbox=CLEAR
    )


def draw_prices(panel: Any, plan: Plan, options: list[Option]) -> None:
    """Draw a month's price by type; the endpoint's own is the dark bar, and a type that cannot be compared has none."""
    most = max((each.dollars_per_month or 0 for each in options), default=0) or 1
    for place, each in enumerate(options):
        if each.dollars_per_month is None:
            panel.text(
                most * 0.02,
                place,
                "no price" if each.requests_per_second else "measure there",
                va="center",
                fontsize=SMALL - 1,
                color=GREY,
            )
            continue
        panel.barh(place, each.dollars_per_month, 0.62, color=BLUE if place == 0 else SKY)
        panel.text(each.dollars_per_month + most * 0.02, place, f"${each.dollars_per_month:,.0f}", va="center")
    names = [f"{each.instances} x {each.instance_type}" if each.instances else each.instance_type for each in options]
    panel.set_yticks(range(len(options)), names)
    panel.set(xlim=(0, most * 1.3), ylim=(len(options) - 0.4, -0.6))
    panel.set_title(f"Instances for {format_rate(plan.traffic)} a minute")
    panel.set_xlabel("US dollars a month (dark: current type)", fontsize=SMALL)
    style_x_axis(panel, 4)


def style_x_axis(panel: Any, ticks: int) -> None:
    """Set few ticks along the bars, with plain numbers, and no grid across."""
    panel.xaxis.set_major_locator(MaxNLocator(ticks))
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.3g}" if abs(value) < 10 else f"{value:,.0f}")
    panel.tick_params(labelsize=SMALL - 1)
    panel.grid(axis="y", visible=False)
