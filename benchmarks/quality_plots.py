"""The charts of `benchmarks.quality`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.quality_report import SCORES, Curve
from benchmarks.quality_statistics import standard_error

BAND = (10, 90)
"""Percentiles over the runs at which the bands around the curves begin and end."""

COLORS = 10
"""How many colors matplotlib has before the first one comes again."""

MARKERS = "os^D"
"""The markers of the first ten recipes, of the next ten, and so on."""


def plot(curves: Sequence[Curve], path: Path) -> None:
    """Draw curves of runs with several checkpoints, and points of runs with one.

    Parameters
    ----------
    curves
        One line or point each.
    path
        File to write: its suffix, one that matplotlib knows, is the format.
    """
    if all(len(rows) == 1 for curve in curves for rows in curve.runs.values()):
        figure = points_figure(curves)
    else:
        figure = curves_figure(curves)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def points_figure(curves: Sequence[Curve]) -> Figure:
    """Draw the share of first ranks and the mean probability against processor seconds."""
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    top, probability = figure.subplots(1, 2)
    # The best stands above in the legend. Labels at the points would overlap.
    best_first = sorted(curves, key=lambda curve: -curve.probability().mean())
    for number, curve in enumerate(best_first):
        marker = MARKERS[number // COLORS % len(MARKERS)]
        both = (curve.is_first("lite1") + curve.is_first("lite2")) / 2
        for ax, values in ((top, 100.0 * both), (probability, curve.probability())):
            seconds, mean = curve.last("cpu_seconds").mean(), values.mean()
            error = standard_error(values, curve.subjects)
            ax.errorbar(seconds, mean, yerr=error, marker=marker, capsize=3, label=curve.label)
    handles, labels = top.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    top.set_ylabel("class ranked first, %, mean of Lite1 and Lite2")
    probability.set_ylabel("probability, mean of Lite1 and Lite2")
    for ax in (top, probability):
        ax.set_xlabel("processor seconds")
        ax.set_xlim(left=0)
        ax.margins(x=0.05, y=0.1)
        ax.grid(alpha=0.3)
    _title(figure, curves, "bars: standard error over the classes")
    return figure


def curves_figure(curves: Sequence[Curve]) -> Figure:
    """Draw score and probabilities against seconds."""
    figure = Figure(figsize=(5.0 * len(SCORES), 4.2), layout="constrained")
    for ax, (column, label) in zip(figure.subplots(1, len(SCORES)), SCORES.items(), strict=True):
        for curve in curves:
            seconds, values = curve.mean("seconds"), curve.values(column)
            (line,) = ax.plot(seconds, values.mean(axis=0), marker=".", label=curve.label)
            low, high = np.percentile(values, BAND, axis=0)
            ax.fill_between(seconds, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        ax.set_xscale("log")
        ax.set_xlabel("seconds")
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
    figure.axes[0].legend()
    _title(figure, curves, f"band: {BAND[0]}th to {BAND[1]}th percentile")
    return figure


def _title(figure: Figure, curves: Sequence[Curve], shown: str) -> None:
    """Say what was measured where."""
    first = next(iter(curves[0].runs.values()))[0]
    figure.suptitle(
        f"{first['network']}: mean over {len(curves[0].runs)} runs, {shown}; "
        f"{first['processor']}, {first['threads']} threads",
        fontsize="small",
    )
