"""Figures that two lessons or more use. Each draws on given axes and computes nothing but means."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from torch import Tensor

from course_utils import valid
from course_utils.calibration import Reliability

# Seaborn's "colorblind", which most readers can tell apart. Its theme is spelled out in `style`: importing seaborn, and SciPy's
# statistics with it, would cost every lesson a second.
PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]


def style() -> None:
    """Set the look of every figure: a palette that colour-blind readers can tell apart, and text readable at half size."""
    plt.style.use("seaborn-v0_8-whitegrid")
    plt.rcParams |= {
        "axes.prop_cycle": cycler(color=PALETTE),
        "font.sans-serif": ["DejaVu Sans", "sans-serif"],  # comes with matplotlib, and has every sign that lessons use
        "font.size": 12,
        "grid.linewidth": 1.0,
        "legend.frameon": True,
        "xtick.bottom": False,
        "ytick.left": False,
        "axes.labelsize": 12,
        "axes.linewidth": 1.25,
        "legend.fontsize": 11,
        "legend.title_fontsize": 12,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "patch.edgecolor": "w",
        "patch.force_edgecolor": True,
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 2,
    }


def learning_curves(
    frame: pd.DataFrame, measure: str = "loss", *, best_epoch: int | None = None, ax: Axes | None = None
) -> Axes:
    """Training and validation curve of ``History.frame`` over epochs (lesson 00).

    Args:
        frame: with columns ``train_<measure>`` and ``val_<measure>``.
        measure: ``"loss"`` or ``"accuracy"``.
        best_epoch: marked with a vertical line when given.
        ax: where to draw; the current axes when ``None``.
    """
    ax = ax or plt.gca()
    ax.plot(frame.index, frame[f"train_{measure}"], "--", label="training")
    ax.plot(frame.index, frame[f"val_{measure}"], "-", label="validation")
    if best_epoch is not None:
        ax.axvline(best_epoch, color="0.4", linestyle=":", label=f"epoch {best_epoch}")
    ax.set(xlabel="epoch", ylabel="cross-entropy (nats)" if measure == "loss" else measure)
    ax.legend()
    return ax


def seed_curves(frames: Mapping[int, pd.DataFrame], columns: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """One thin line per seed for each column, so that the spread is seen and not only a mean (lesson 00).

    Args:
        frames: a frame per seed; the index is the horizontal axis.
        columns: the first is drawn dashed (training), the others solid.
        ax: where to draw; the current axes when ``None``.
    """
    ax = ax or plt.gca()
    for number, column in enumerate(columns):
        for position, frame in enumerate(frames.values()):
            label = column.replace("train_", "training ").replace("val_", "validation ") if position == 0 else None
            ax.plot(frame.index, frame[column], "-" if number else "--", color=f"C{number}", linewidth=1.2, label=label)
    ax.legend()
    return ax


def paired(frame: pd.DataFrame, *, ylabel: str, ax: Axes | None = None) -> Axes:
    """One line per seed across conditions, and the mean of each condition as a bar of its own (lesson 01).

    Lines that all rise or all fall show a difference that does not depend on the seed.

    Args:
        frame: a row per seed, a column per condition.
        ylabel: what the values are, with their unit.
        ax: where to draw; the current axes when ``None``.
    """
    ax = ax or plt.gca()
    positions = range(len(frame.columns))
    for seed, row in frame.iterrows():
        ax.plot(
            positions, row, "o-", color="0.6", linewidth=1, markersize=5, label="one seed" if seed == frame.index[0] else None
        )
    ax.plot(positions, frame.mean(), "_", color="C0", markersize=34, markeredgewidth=4, label="mean")
    ax.set_xticks(positions, frame.columns)
    ax.set_xlim(-0.5, len(frame.columns) - 0.5)
    ax.set_ylabel(ylabel)
    ax.grid(axis="x", visible=False)
    ax.legend()
    return ax


def reliability_diagram(reliability: Reliability, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Accuracy against confidence in bins, the gap between the two, and below them the number of samples in each (lesson 06).

    A bar that ends below the dashed diagonal is of an over-confident network, above it of an under-confident one. The hatched
    gap goes from the bin's accuracy to its mean confidence: the mean of these gaps over the samples is the ECE. Empty bins
    have no bar.

    Args:
        reliability: what `calibration.reliability` returns, of equal width or adaptive.
        title: what the diagram shows.
        ax: where to draw; the current axes when ``None``.
    """
    ax = ax or plt.gca()
    edges, count, confidence, accuracy = (part.cpu().numpy() for part in reliability)
    filled = count > 0
    count, confidence, accuracy = count[filled], confidence[filled], accuracy[filled]
    left, width = edges[:-1][filled], (edges[1:] - edges[:-1])[filled].clip(min=0.004)
    bars = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
    ax.bar(left, accuracy, width, color="C0", label="accuracy", **bars)
    gap = {"align": "edge", "fill": False, "edgecolor": "C1", "linewidth": 1.2, "hatch": "////"}
    ax.bar(left, confidence - accuracy, width, bottom=accuracy, label="gap to confidence", **gap)
    ax.plot([0, 1], [0, 1], "--", color="0.3", linewidth=1.2)
    floor, height = -0.36, 0.2
    ax.bar(left, height * count / count.max(), width, bottom=floor, color="0.6", **bars)
    for start, wide, number in zip(left, width, count, strict=True):
        if wide > 0.06:  # narrower ones have no room for a number
            place = (start + wide / 2, floor + height * number / count.max() + 0.015)
            ax.text(*place, str(number), ha="center", va="bottom", fontsize="x-small")
    ax.axhline(0, color="0.3", linewidth=0.8)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    ax.set(title=title, xlim=(0, 1), ylim=(floor, 1.02), xticks=ticks, yticks=ticks, xlabel="confidence")
    ax.set_ylabel(f"samples ({count.sum()})    accuracy     ", y=1, ha="right")
    ax.grid(visible=False)
    ax.legend(loc="upper left", fontsize="small")
    return ax


def image_grid(images: Tensor, titles: Sequence[str], *, columns: int = 10, title: str = "") -> None:
    """A grid of images, each with a title (lesson 00).

    Args:
        images: uint8 ``(N, C, H, W)`` with 1 or 3 channels; one at least.
        titles: one per image.
        columns: images in a row, at least 1.
        title: of the whole figure.

    Raises:
        ValueError: no images, images of another shape, fewer titles than images, or ``columns`` below 1.
    """
    columns = valid.whole_number(columns, "columns", 1)
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"images are of shape {tuple(images.shape)}; use (N, C, H, W) with 1 or 3 channels, N at least 1.")
    if len(titles) < len(images):
        raise ValueError(f"there are {len(images)} images and {len(titles)} titles: give each image one.")
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.15 * columns, 1.4 * rows + 0.3), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, text in zip(axes.flat, images.detach().cpu(), titles, strict=False):
        ax.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(text, fontsize="x-small", fontweight="normal", loc="center")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")


def mean_and_std(table: pd.DataFrame) -> pd.DataFrame:
    """Table of "mean ± standard deviation" over the rows (seeds), a row per condition and a column per measure (lesson 01).

    Args:
        table: a row per seed and columns ``(measure, condition)``.

    >>> mean_and_std(pd.DataFrame({("gap", "plain"): [0.1, 0.3], ("gap", "dropout"): [0.1, 0.1]}))
                       gap
    plain    0.200 ± 0.141
    dropout  0.100 ± 0.000
    """
    cells = [f"{mean:.3f} ± {std:.3f}" for mean, std in zip(table.mean(), table.std(), strict=True)]
    wide = pd.Series(cells, index=table.columns).unstack(0, sort=False)
    return wide[list(dict.fromkeys(measure for measure, _ in table.columns))]
