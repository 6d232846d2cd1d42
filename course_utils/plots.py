"""Figures that two lessons or more use. Each draws on given axes and computes nothing but means.

A dashed line means training, and nothing else. Conditions differ by marker as well as by colour. No function sets a title:
what was found is for the lesson to say.
"""

import base64
import hashlib
import html
import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from torch import Tensor

from course_utils import valid
from course_utils.calibration import Reliability
from course_utils.experiment import Results
from course_utils.history import History

# Seaborn's "colorblind", which most readers can tell apart. Its theme is spelled out in `style`: importing seaborn, and SciPy's
# statistics with it, would cost every lesson a second.
_PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]
_MARKERS = "osD^vP*X<>"
_FEW = 25  # samples in a bin below which its accuracy has a standard error of up to 0.1 and more
MOST_MEGABYTES = 8  # of a slider; a notebook with more is slow to open and to save


def style() -> None:
    """Set the look of every figure: a palette that colour-blind readers can tell apart, and text readable at half size."""
    plt.style.use("seaborn-v0_8-whitegrid")
    plt.rcParams |= {
        "axes.prop_cycle": cycler(color=_PALETTE),
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


# --- curves ------------------------------------------------------------------------------------------------------------------


def learning_curves(
    runs: Results | History | pd.DataFrame,
    measure: str = "loss",
    *,
    conditions: Iterable[str | float] | None = None,
    of: str | None = None,
    best_epoch: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Training (dashed) and validation curves over epochs (lesson 01).

    Of an experiment a line per seed is drawn, and with several conditions each has a colour and a marker.

    Args:
        runs: an experiment whose runs returned a `history.History`; or one history, or its frame. Curves are its columns
            ``train_<measure>`` and ``val_<measure>``, or one of the two.
        measure: such as ``"loss"`` or ``"accuracy"``.
        conditions: those of the experiment to draw, one at least; all when ``None``.
        of: name under which the runs of the experiment returned the curves; may be left out where there is only one.
        best_epoch: marked with a vertical line when given.
        ax: where to draw; the current axes when ``None``.

    Raises:
        ValueError: there is no such condition or measure, or there are several curves and ``of`` names none.
    """
    ax = ax or plt.gca()
    groups: dict[str | float, list[pd.DataFrame]] = {}
    if isinstance(runs, Results):
        for name in runs.conditions if conditions is None else conditions:
            groups[name] = list(runs.frames(name, of).values())
        if not groups:
            raise ValueError("there is no condition to draw; leave out `conditions` for all.")
    else:
        groups[""] = [runs.frame if isinstance(runs, History) else runs]
    several, found = len(groups) > 1, set()
    for number, (name, frames) in enumerate(groups.items()):
        named = "validation" if any(f"val_{measure}" in frame for frame in frames) else "training"
        for column, words in ((f"train_{measure}", "training"), (f"val_{measure}", "validation")):
            curves = [frame[column] for frame in frames if column in frame]
            found |= {words} if curves else set()
            label = (str(name) if words == named else None) if several else words
            color = number if several else int(words == "validation")
            _curves(ax, curves, color, training=words == "training", markers=several or words == "validation", label=label)
    if not found:
        raise ValueError(f"these curves have no column train_{measure} or val_{measure}.")
    if several and "training" in found:
        ax.plot([], [], "--", color="0.4", label="training")
    if best_epoch is not None:
        ax.axvline(best_epoch, color="0.4", linestyle=":", label=f"epoch {best_epoch}")
    ax.set(xlabel="epoch", ylabel="cross-entropy (nats)" if measure == "loss" else measure)
    _legend(ax)
    return ax


def seed_curves(frames: Mapping[int, pd.DataFrame], columns: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """One thin line per seed for each column, so that the spread is seen and not only a mean (lesson 00).

    Args:
        frames: a frame per seed; the index is the horizontal axis.
        columns: those that begin with "train" are dashed.
        ax: where to draw; the current axes when ``None``.
    """
    ax = ax or plt.gca()
    for number, column in enumerate(columns):
        label = column.replace("train_", "training ").replace("val_", "validation ")
        curves, training = [frame[column] for frame in frames.values()], column.startswith("train")
        _curves(ax, curves, number, training=training, markers=not training, label=label)
    _legend(ax)
    return ax


def _curves(ax: Axes, curves: Sequence[pd.Series], number: int, *, training: bool, markers: bool, label: str | None) -> None:
    """Curves of one kind, a line per seed; only the first has the label."""
    if label and label.startswith("_"):
        label = f" {label}"  # or matplotlib leaves it out of the legend
    look: dict[str, Any] = {"color": f"C{number}", "linewidth": 2 if len(curves) == 1 else 1.2}
    if markers:
        shift = number // len(_PALETTE)  # where colours begin again, markers do not
        look |= {"marker": _MARKERS[(number + shift) % len(_MARKERS)], "markersize": 5}
    for place, curve in enumerate(curves):
        few = max(1, len(curve) // (8 if len(curves) == 1 else 4))  # some markers tell the lines apart, more would hide them
        look |= {"markevery": (place % few, few), "zorder": 2 + place / 1000}  # no condition lies on top of all others
        ax.plot(curve.index, curve, "--" if training else "-", label=label, **look)
        label = None
    if curves and ax.get_xscale() == "linear" and pd.api.types.is_integer_dtype(curves[0].index):
        _ticks(ax.xaxis, integer=True)  # there is no epoch 2.5


# --- conditions --------------------------------------------------------------------------------------------------------------


def paired(
    results: Results | pd.DataFrame, measure: str | None = None, *, ylabel: str | None = None, ax: Axes | None = None
) -> Axes:
    """One line per seed across conditions, and the mean of each condition as a bar of its own (lesson 01).

    Lines that all rise or all fall show a difference that does not depend on the seed. A condition with a value that is not
    finite has no mean, and its name says so.

    Args:
        results: an experiment, or a frame with a row per seed and a column per condition.
        measure: of the experiment; may be left out where there is only one.
        ylabel: what the values are, with their unit; the measure's name when ``None``.
        ax: where to draw; the current axes when ``None``.

    Raises:
        ValueError: there is no such measure, or a frame that is empty or holds what is no number.
    """
    ax = ax or plt.gca()
    frame, name = _by_seed(results, measure)
    positions = np.arange(len(frame.columns))
    for number, (_, row) in enumerate(frame.iterrows()):
        label = "one seed" if number == 0 else None
        ax.plot(positions, row, "o-", color="0.6", linewidth=1, markersize=5, label=label)
    ax.hlines(frame.mean(skipna=False), positions - 0.15, positions + 0.15, color="C0", linewidth=4, label="mean", zorder=3)
    ax.set_xticks(positions, _names(frame))
    _fit_tick_labels(ax)
    ax.set_xlim(-0.5, len(frame.columns) - 0.5)
    ax.set_ylabel(name if ylabel is None else ylabel)
    ax.grid(axis="x", visible=False)
    _legend(ax)
    return ax


def mean_and_spread(
    results: Results | pd.DataFrame, measure: str | None = None, *, xlabel: str | None = None, ax: Axes | None = None
) -> Axes:
    """A row per condition: a dot per seed, their mean, and one standard deviation to each side.

    A condition with a value that is not finite has neither, and its name says so.

    Args:
        results: an experiment, or a frame with a row per seed and a column per condition.
        measure: of the experiment; may be left out where there is only one.
        xlabel: what the values are, with their unit; the measure's name when ``None``.
        ax: where to draw; the current axes when ``None``.

    Raises:
        ValueError: there is no such measure, or a frame that is empty or holds what is no number.
    """
    ax = ax or plt.gca()
    frame, name = _by_seed(results, measure)
    rows = np.arange(len(frame.columns))
    for row, (_, values) in zip(rows, frame.items(), strict=True):
        label = "one seed" if row == 0 else None
        ax.plot(values, np.full(len(frame), row + 0.2), "o", color="0.5", alpha=0.7, markersize=5, label=label)
    spread = frame.std(skipna=False) if len(frame) > 1 else None  # one seed has none
    label = "mean" if spread is None else "mean ± std"
    ax.errorbar(frame.mean(skipna=False), rows, xerr=spread, fmt="D", color="C0", capsize=4, markersize=7, label=label)
    ax.set_yticks(rows, [textwrap.fill(name, 20, break_long_words=False) for name in _names(frame)])
    ax.set_ylim(len(rows) - 0.5, -0.5)  # the first condition on top
    ax.set_xlabel(name if xlabel is None else xlabel)
    ax.grid(axis="y", visible=False)
    _ticks(ax.xaxis, nbins=6)  # numbers of four digits would touch
    _legend(ax)
    return ax


def _by_seed(results: Results | pd.DataFrame, measure: str | None) -> tuple[pd.DataFrame, str]:
    """A row per seed and a column per condition, with NaN for all that is not finite; and the measure's name."""
    if isinstance(results, Results):
        frame, name = results.by_seed(measure), measure or results.measures[0]
    elif measure is None:
        frame, name = results, ""
    else:
        raise ValueError(f"a frame holds one measure: leave out {measure!r}, and say what it is by the label of its axis.")
    try:
        numbers = frame.astype(float)
    except (TypeError, ValueError):
        raise ValueError(
            "the frame holds what is no number; give the experiment itself, or a row per seed and a column per condition."
        ) from None
    if numbers.empty:
        raise ValueError("the frame is empty; give a row per seed and a column per condition, one at least.")
    return numbers.replace([np.inf, -np.inf], np.nan), name


def _names(frame: pd.DataFrame) -> list[str]:
    lost = zip(frame.columns, frame.isna().sum(), strict=True)  # by place: two columns may have one name
    return [f"{name} ({count} not finite)" if count else str(name) for name, count in lost]


def _ticks(axis: Axis, **wishes: Any) -> None:
    """Wishes to the rule that places the ticks, unless the lesson has chosen another."""
    locator = axis.get_major_locator()
    if isinstance(locator, MaxNLocator):
        locator.set_params(**wishes)


def _fit_tick_labels(ax: Axes) -> None:
    """Break names below an axis into lines between words; where a word is too long for that, write all of them slantwise."""
    labels = ax.get_xticklabels()
    inches = ax.bbox.width / ax.figure.dpi / len(labels)
    width = int(inches * 72 / 5.8)  # letters; one of 11 points is about 5.8 wide
    texts = [label.get_text() for label in labels]
    if max((len(word) for text in texts for word in text.split()), default=0) > width:
        ax.set_xticks(ax.get_xticks(), texts, rotation=30, ha="right", rotation_mode="anchor")
        return
    lines = [[textwrap.fill(line, width) for line in text.split("\n")] for text in texts]
    ax.set_xticks(ax.get_xticks(), ["\n".join(parts) for parts in lines])


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


# --- calibration and images --------------------------------------------------------------------------------------------------


def reliability_diagram(reliability: Reliability, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Accuracy against confidence in bins, the gap between the two, and below them the number of samples in each (lesson 06).

    A bar that ends below the dotted diagonal is of an over-confident network, above it of an under-confident one. The hatched
    gap goes from the bin's accuracy to its mean confidence: the mean of these gaps over the samples is the ECE. Bins of fewer
    than 25 samples are pale, for their accuracy is largely chance; empty bins have no bar.

    Args:
        reliability: what `calibration.reliability` returns, of equal width or adaptive.
        title: what the diagram shows.
        ax: where to draw; the current axes when ``None``.
    """
    ax = ax or plt.gca()
    edges, count, confidence, accuracy = (part.cpu().numpy() for part in reliability)
    floor, height = -0.36, 0.2
    tallest = max(count.max(), 1)
    for few in (False, True):
        chosen = (count > 0) & ((count < _FEW) == few)
        if not chosen.any():
            continue
        left, width = edges[:-1][chosen], (edges[1:] - edges[:-1])[chosen].clip(min=0.004)
        bars: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.8, "alpha": 0.25 if few else 1}
        label = f"under {_FEW} samples" if few else "accuracy"
        ax.bar(left, accuracy[chosen], width, color="0.55" if few else "C0", label=label, **bars)
        if not few:
            gap: dict[str, Any] = {"align": "edge", "fill": False, "edgecolor": "C1", "linewidth": 1.2, "hatch": "////"}
            between = (confidence - accuracy)[chosen]
            ax.bar(left, between, width, bottom=accuracy[chosen], label="gap", **gap)
        ax.bar(left, height * count[chosen] / tallest, width, bottom=floor, color="0.6", **bars | {"alpha": 1})
        for start, wide, number in zip(left, width, count[chosen], strict=True):
            if wide > 0.06:  # a number does not fit into narrower ones
                place = (start + wide / 2, floor + height * number / tallest + 0.015)
                ax.text(*place, str(number), ha="center", va="bottom", fontsize="x-small")
    ax.plot([0, 1], [0, 1], ":", color="0.2", linewidth=1.6)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    ax.set(xlim=(0, 1), ylim=(floor, 1.02), xticks=ticks, yticks=ticks, xlabel="confidence")
    ax.set_title(title, pad=26)  # space for the legend: within, it would lie over bars
    ax.set_ylabel("accuracy", y=(0.5 - floor) / (1.02 - floor))
    ax.set_yticks([floor / 2], [f"samples\n({count.sum()})"], minor=True, fontsize="x-small", rotation=90, va="center")
    ax.grid(visible=False)
    row: dict[str, Any] = {"ncols": 3, "loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False}
    ax.legend(fontsize="x-small", borderaxespad=0, columnspacing=1, handlelength=1.5, **row)
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


# --- legends -----------------------------------------------------------------------------------------------------------------


def _legend(ax: Axes) -> None:
    """Give the axes a legend that never lies over data and is no higher than they are: long names and many are smaller."""
    handles, labels = ax.get_legend_handles_labels()
    labels = [textwrap.fill(label, 30) for label in labels]
    lines = sum(label.count("\n") + 1 for label in labels)
    highest = ax.bbox.height / ax.figure.dpi * 72 / (1.2 * lines + 0.5 * len(labels) + 1)
    usual = FontProperties(size=plt.rcParams["legend.fontsize"]).get_size_in_points()
    ax.legend_ = _FreeLegend(ax, handles, labels, fontsize=min(usual, highest))
    # As `Axes.legend` does, so that `ax.get_legend().remove()` works. Matplotlib's types do not know it.
    ax.legend_._remove_method = lambda legend: setattr(ax, "legend_", None)  # type: ignore[attr-defined]


class _FreeLegend(Legend):
    """Stands where no data are within the axes, or right of them when they are everywhere.

    The place is looked for when the figure is laid out and drawn: a lesson may change limits, or add lines, after the call.
    """

    _outside = False

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox | None:
        self._find_place()
        return super().get_tightbbox(renderer)

    def draw(self, renderer: RendererBase) -> None:
        self._find_place()
        super().draw(renderer)

    def _find_place(self) -> None:
        if self._outside:  # for good: back inside the axes would grow, and the data with them
            return
        for place in ("upper right", "upper left", "lower right", "lower left", "center right", "center left"):
            self.set_loc(place)
            if not _holds_data(self.axes, self.get_window_extent()):
                return
        self._outside = True
        self.set_loc("upper left")
        self.set_bbox_to_anchor((1.0, 1.0), self.axes.transAxes)


def _holds_data(ax: Axes, box: Bbox) -> bool:
    """Whether anything is drawn within a box in pixels."""
    point = ax.figure.dpi / 72
    for line in ax.lines:
        near = box.padded((2 + line.get_markersize() / 2) * point)
        path = line.get_transform().transform_path(line.get_path())
        points = np.asarray(path.vertices)
        joined = line.get_linestyle() not in ("None", " ", "") and len(points) > 1
        if near.count_contains(points) or (joined and path.intersects_bbox(near, filled=False)):
            return True
    near = box.padded(4 * point)
    for collection in ax.collections:
        if isinstance(collection, PathCollection):  # of a scatter plot
            points = collection.get_offset_transform().transform(collection.get_offsets())
            if near.count_contains(points):
                return True
            continue
        filled = not isinstance(collection, LineCollection)
        paths = [collection.get_transform().transform_path(path) for path in collection.get_paths()]
        if any(path.intersects_bbox(near, filled=filled) for path in paths):
            return True
    others = [*ax.patches, *ax.texts, *ax.images]
    return any(other.get_window_extent().overlaps(near) for other in others)


# --- sliders -----------------------------------------------------------------------------------------------------------------

# The attribute about shortcuts is for JupyterLab, which would take the arrow keys to fold headings.
_SLIDER = """<div data-slider="{key}" role="group" aria-label="{name}">
<style>@media print {{ [data-slider] input {{ display: none; }} }}</style>
<p style="display: none"><label>{name}
<input type="range" min="0" max="{last}" step="1" value="{start}" data-lm-suppress-shortcuts
style="width: 16em; max-width: 60%; vertical-align: middle">
</label> <strong aria-hidden="true"></strong></p>
{frames}
<script>
for (const slider of document.querySelectorAll('[data-slider="{key}"]')) {{
  const input = slider.querySelector("input");
  const frames = slider.querySelectorAll("[data-value]");
  const show = () => {{
    frames.forEach((frame, place) => {{ frame.style.display = place === Number(input.value) ? "" : "none"; }});
    const value = frames[input.value].dataset.value;
    input.setAttribute("aria-valuetext", value);
    slider.querySelector("strong").textContent = value;
  }};
  slider.querySelectorAll("[data-caption]").forEach((caption) => {{ caption.style.display = "none"; }});
  slider.querySelector("p").style.display = "";
  input.addEventListener("input", show);
  show();
}}
</script>
</div>"""


@dataclass(frozen=True)
class Slider:
    """What `slider` makes; as the last line of a cell it is shown.

    Attributes:
        name: what the slider changes.
        count: number of frames.
        html: the whole of it, for any page.
    """

    name: str
    count: int
    html: str

    def __repr__(self) -> str:
        return f"Slider of {self.name}, {self.count} frames"

    def _repr_html_(self) -> str:
        return self.html


def slider(name: str, values: Iterable[Any], draw: Callable[[Any], Any], *, start: Any = None, alt: str = "") -> Slider:
    """Figures or tables to slide through, one per value, all made now: they work wherever the notebook is shown (lesson 04).

    JupyterLab, Colab and a page need nothing but the output itself: no kernel, no network. The arrow keys move it. Paper
    shows the frame that was chosen, and a reader without JavaScript sees all frames, one below the other.

    Args:
        name: what changes, such as "threshold".
        values: the values to slide through, in their order; one at least.
        draw: gets a value. Draws on the current figure, which is new and empty, or on one that it makes; or returns a table,
            or anything that can be printed. Set the limits of the axes, or each frame has its own.
        start: the value that is shown first; the first of ``values`` when ``None``.
        alt: what the figures show, for those who cannot see them; the name and the value are added.

    Raises:
        ValueError: no value, a ``start`` that is none of them, a ``draw`` that draws nothing, or more than 8 MB of figures.
    """
    values = list(values)
    if not values:
        raise ValueError("there are no values to slide through.")
    texts = [_text(value) for value in values]
    if start is not None and _text(start) not in texts:  # as a reader sees them: 0.3 is among np.linspace(0, 1, 11)
        raise ValueError(f"start is {start!r}; it must be one of the values, {', '.join(texts)}.")
    frames, size = [], 0
    for number, value in enumerate(values, start=1):
        label = f"{name} {_text(value)}"
        content = _frame(draw, value, f"{alt} ({label})" if alt else label)
        caption = f"<p data-caption>{html.escape(label)}</p>"
        frames.append(f'<div data-value="{html.escape(_text(value))}">{caption}{content}</div>')
        size += len(content)
        if size > MOST_MEGABYTES * 1e6:
            raise ValueError(
                f"{number} of {len(values)} frames take {size / 1e6:.0f} MB, and a slider may take {MOST_MEGABYTES}: "
                "give fewer values, or draw smaller figures (figsize)."
            )
    place = 0 if start is None else texts.index(_text(start))
    shown = "\n".join(frames)
    key = hashlib.sha256(shown.encode()).hexdigest()[:16]  # the same in every execution: a page that is built again is equal
    page = {"key": key, "name": html.escape(name), "last": len(values) - 1, "start": place}
    return Slider(name, len(values), _SLIDER.format(frames=shown, **page))


def _text(value: Any) -> str:
    if isinstance(value, (Tensor, np.generic)) and value.ndim == 0:
        value = value.item()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _frame(draw: Callable[[Any], Any], value: object, alt: str) -> str:
    """HTML of what is drawn for a value; leaves no figure open."""
    others = plt.get_fignums()
    plt.figure()
    try:
        found = draw(value)
        if hasattr(found, "to_html"):  # a frame, or a styled one
            return found.to_html()
        figure = found if isinstance(found, Figure) else plt.gcf()
        if not figure.axes and found is not None:
            return f"<pre>{html.escape(str(found))}</pre>"
        if not figure.axes:
            raise ValueError(
                f"draw({value!r}) left nothing: let it draw on the current figure, without plt.show or plt.close, or return "
                "a table or a text."
            )
        picture = io.BytesIO()
        figure.savefig(picture, format="png", facecolor="white")
    finally:
        for number in set(plt.get_fignums()) - set(others):
            plt.close(number)
    code = base64.b64encode(picture.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(alt)}" style="max-width: 100%; height: auto" src="data:image/png;base64,{code}">'
