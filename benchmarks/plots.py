"""Draws a report's plot with matplotlib, which only the dependency group `bench` installs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Plot


def draw(plot: Plot, path: Path, machine: str) -> bool:
    """Writes a PNG; returns False where matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the tests run benchmarks without it
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    if plot.bars:
        _bars(axes, plot)
    else:
        for name, points in plot.series.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend()
        axes.grid(visible=True, which="both", alpha=0.3)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.set_title(f"{plot.title}\n{machine}", fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _bars(axes, plot: Plot) -> None:
    checks = list(reversed(plot.bars))
    places = range(len(checks))
    colours = ["tab:green" if check.met else "tab:red" for check in checks]
    axes.barh(places, [check.value for check in checks], color=colours, alpha=0.7)
    for place, check in zip(places, checks, strict=True):
        axes.plot([check.limit, check.limit], [place - 0.45, place + 0.45], color="black")
        if check.low is not None and check.high is not None:
            axes.plot([check.low, check.high], [place, place], color="black", linewidth=1)
    axes.set_yticks(places, [check.what for check in checks], fontsize=7)
    axes.grid(visible=True, axis="x", alpha=0.3)
