"""Figures show what they are given, and hide none of it; their look is seaborn's, without the time that importing it takes."""

import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import torch
from matplotlib.colors import to_hex

from course_utils import calibration, experiment, plots
from course_utils.history import History

# What shows in no figure of the course: ticks without length, a default colour map that nobody uses, fonts not installed.
UNSEEN = ("xtick.m", "ytick.m", "image.cmap", "font.sans-serif", "axes.prop_cycle")


@pytest.fixture(autouse=True)
def clean():
    with plt.rc_context():
        mpl.rcParams.update(mpl.rcParamsDefault)
        yield


def test_the_style_is_seaborns():
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    theirs = dict(mpl.rcParams)
    mpl.rcParams.update(mpl.rcParamsDefault)
    before = dict(mpl.rcParams)
    plots.style()
    ours = dict(mpl.rcParams)
    assert [to_hex(color) for color in ours["axes.prop_cycle"].by_key()["color"]] == sns.color_palette("colorblind").as_hex()
    chosen = {"figure.dpi", "figure.constrained_layout.use", "lines.linewidth"}
    chosen |= {"axes.titlesize", "axes.titleweight", "axes.titlelocation", "axes.spines.top", "axes.spines.right"}
    seen = [name for name in theirs if name not in chosen and not name.startswith(UNSEEN)]
    differ = {name: (ours[name], theirs[name]) for name in seen if ours[name] != theirs[name]}
    assert differ == {}
    assert theirs != before


def test_importing_a_lessons_modules_does_not_import_seaborn_or_scipy():
    code = (
        "import sys; from course_utils import augment, check, data, models, plots, record, runtime, train; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "matplotlib.pyplot"} <= set(loaded)
    assert not {"seaborn", "scipy.stats", "sklearn", "torchvision"} & set(loaded)


def test_image_grids_refuse_what_they_cannot_show():
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="3 images and 2 titles"):
        plots.image_grid(images, ["a", "b"])
    for bad in (images[:0], images[0], images.expand(3, 2, 4, 4)):
        with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
            plots.image_grid(bad, ["a", "b", "c"])


# --- what is drawn of an experiment ------------------------------------------------------------------------------------------


def run(seed, shift):
    """A run that trains nothing: curves and scores of a known shape."""
    jitter = 0.01 * seed
    rows = []
    for epoch in range(1, 9):
        row = {"train_loss": 1 / epoch, "val_loss": 0.5 + 0.5 / epoch + jitter}
        rows.append(row | {"train_accuracy": 1 - 0.4 / epoch, "val_accuracy": 0.7 + shift - 0.3 / epoch + jitter})
    return {"accuracy": 0.7 + shift + jitter, "ECE": 0.1 - shift / 5, "history": History(rows)}


CONDITIONS = {"plain": 0.0, "smoothing": 0.05, "mixup": 0.1}


@pytest.fixture
def scores():
    return experiment.over_seeds(run, CONDITIONS, [0, 1, 2], progress=False)


@pytest.fixture
def ax():
    plots.style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(ax):
    return [line for line in ax.lines if len(line.get_xdata())]


def test_paired_draws_an_experiment_as_it_draws_its_frame(scores, ax):
    plots.paired(scores, "accuracy", ax=ax)
    frame = scores.by_seed("accuracy")
    lines = drawn(ax)
    for line, (_, row) in zip(lines, frame.iterrows(), strict=False):
        assert line.get_ydata().tolist() == row.tolist()
    means = ax.collections[0].get_segments()
    assert [height for mean in means for height in mean[:, 1]] == pytest.approx(frame.mean().repeat(2).tolist())
    assert [mean[:, 0].mean() for mean in means] == pytest.approx([0, 1, 2])
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CONDITIONS)
    assert ax.get_ylabel() == "accuracy"
    assert legend_of(ax) == ["one seed", "mean"]
    _, other = plt.subplots()
    plots.paired(frame, ylabel="accuracy", ax=other)
    assert [line.get_ydata().tolist() for line in drawn(other)] == [line.get_ydata().tolist() for line in lines]
    with pytest.raises(ValueError, match="several of measure"):
        plots.paired(scores, ax=ax)
    with pytest.raises(ValueError, match="leave out 'accuracy'"):
        plots.paired(frame, "accuracy", ax=ax)


def test_mean_and_spread_shows_every_seed_the_mean_and_one_standard_deviation(scores, ax):
    plots.mean_and_spread(scores, "accuracy", ax=ax)
    frame = scores.by_seed("accuracy")
    dots = [sorted(line.get_xdata().tolist()) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [sorted(frame[name]) for name in CONDITIONS]
    bars = ax.containers[0].lines[2][0].get_segments()
    for (start, end), name in zip(bars, CONDITIONS, strict=True):
        assert (start[0] + end[0]) / 2 == pytest.approx(frame[name].mean())
        assert end[0] - start[0] == pytest.approx(2 * frame[name].std())
    assert ax.yaxis_inverted()
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CONDITIONS)
    _, other = plt.subplots()
    plots.mean_and_spread(frame.iloc[:1], ax=other)
    assert legend_of(other) == ["one seed", "mean"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_condition_with_a_value_that_is_not_finite_has_no_mean_and_says_so(value, ax):
    frame = pd.DataFrame({"plain": [0.5, 0.6, 0.7], "diverged": [0.5, 0.6, value]})
    plots.paired(frame, ax=ax)
    (mean,) = [segment for segment in ax.collections[0].get_segments() if len(segment)]  # one that is NaN is empty
    assert mean.tolist() == [[-0.15, pytest.approx(0.6)], [0.15, pytest.approx(0.6)]]
    assert [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()] == ["plain", "diverged (1 not finite)"]
    _, other = plt.subplots()
    plots.mean_and_spread(frame, ax=other)
    assert np.isfinite(np.asarray(other.containers[0].lines[0].get_xdata(), dtype=float)).tolist() == [True, False]
    assert [label.get_text().replace("\n", " ") for label in other.get_yticklabels()] == ["plain", "diverged (1 not finite)"]
    other.figure.canvas.draw()


def test_two_columns_may_have_one_name(ax):
    frame = pd.DataFrame([[0.5, 0.6], [0.7, 0.9]], columns=["epoch 1", "epoch 1"])
    plots.paired(frame, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["epoch 1", "epoch 1"]
    _, other = plt.subplots()
    plots.mean_and_spread(frame, ax=other)
    seen = [line.get_xdata().tolist() for line in other.lines if line.get_marker() == "o"]
    assert seen == [[0.5, 0.7], [0.6, 0.9]]


def test_learning_curves_of_all_seeds(scores, ax):
    plots.learning_curves(scores, "accuracy", ax=ax)
    dashed = [line for line in drawn(ax) if line.get_linestyle() == "--"]
    solid = [line for line in drawn(ax) if line.get_linestyle() == "-"]
    assert len(dashed) == len(solid) == 9
    for line, column in zip(solid, scores.curves("val_accuracy").items(), strict=True):
        assert line.get_ydata().tolist() == column[1].tolist()
    for line, column in zip(dashed, scores.curves("train_accuracy").items(), strict=True):
        assert line.get_ydata().tolist() == column[1].tolist()
    assert len({(line.get_color(), line.get_marker()) for line in solid}) == 3
    assert len({line.get_marker() for line in solid}) == 3
    assert legend_of(ax) == [*CONDITIONS, "training"]
    _, one = plt.subplots()
    plots.learning_curves(scores, "loss", conditions=["mixup"], ax=one)
    assert len(drawn(one)) == 6
    assert legend_of(one) == ["training", "validation"]
    _, other = plt.subplots()
    plots.learning_curves(scores, "loss", conditions=np.array(["mixup"]), ax=other)
    assert len(drawn(other)) == 6
    for wrong, words in (
        ({"measure": "F1"}, "no column train_F1 or val_F1"),
        ({"conditions": ["mix"]}, "no condition 'mix'"),
        ({"conditions": []}, "no condition to draw"),
    ):
        with pytest.raises(ValueError, match=words):
            plots.learning_curves(scores, ax=ax, **wrong)


def test_of_several_histories_in_a_run_one_is_named(ax):
    def two(seed, _):
        return {"student": History([{"train_loss": 1.0}]), "teacher": History([{"train_loss": 2.0}])}

    scores = experiment.over_seeds(two, ["plain"], [0], progress=False)
    with pytest.raises(ValueError, match="name one of student, teacher"):
        plots.learning_curves(scores, ax=ax)
    plots.learning_curves(scores, of="teacher", ax=ax)
    assert [line.get_ydata().tolist() for line in drawn(ax)] == [[2.0]]


def test_every_condition_is_in_the_legend_with_validation_curves_or_without(ax):
    def training_alone(seed, with_validation):
        return {"history": History([{"train_loss": 1.0} | ({"val_loss": 2.0} if with_validation else {})])}

    scores = experiment.over_seeds(training_alone, {"plain": False, "_own": False, "mixup": True}, [0], progress=False)
    plots.learning_curves(scores, ax=ax)
    assert [text.strip() for text in legend_of(ax)] == ["plain", "_own", "mixup", "training"]


def test_more_conditions_than_colours_still_differ(ax):
    conditions = {f"condition {number}": 0.0 for number in range(20)}
    plots.learning_curves(experiment.over_seeds(run, conditions, [0], progress=False), ax=ax)
    solid = [line for line in drawn(ax) if line.get_linestyle() == "-"]
    assert len({(to_hex(line.get_color()), line.get_marker()) for line in solid}) == 20


@pytest.mark.parametrize("draw", [plots.paired, plots.mean_and_spread])
def test_a_frame_that_holds_no_numbers_is_refused_before_it_is_drawn(draw, scores, ax):
    for frame, words in (
        (scores.summary(), "what is no number; give the experiment itself"),
        (scores.table, "what is no number; give the experiment itself"),
        (pd.DataFrame(), "the frame is empty"),
        (pd.DataFrame({"plain": []}), "the frame is empty"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(frame, ax=ax)
    assert not ax.lines
    draw(pd.DataFrame({" ": [0.5]}), ax=ax)
    ax.figure.canvas.draw()


def test_learning_curves_of_one_history_as_lessons_draw_them(ax):
    frame = run(0, 0.0)["history"].frame
    plots.learning_curves(frame, best_epoch=3, ax=ax)
    assert [(line.get_linestyle(), line.get_label()) for line in ax.lines] == [
        ("--", "training"),
        ("-", "validation"),
        (":", "epoch 3"),
    ]
    assert ax.lines[1].get_ydata().tolist() == frame.val_loss.tolist()
    _, other = plt.subplots()
    plots.learning_curves(run(0, 0.0)["history"], ax=other)
    assert other.lines[1].get_ydata().tolist() == frame.val_loss.tolist()


def test_only_training_is_dashed_and_no_figure_has_a_title_of_its_own(scores):
    plots.style()
    frame = scores["plain", 0]["history"].frame
    frames = {seed: scores["plain", seed]["history"].frame for seed in scores.seeds}
    bins = reliability_of(500)
    draw = {
        "paired": lambda ax: plots.paired(scores, "accuracy", ax=ax),
        "spread": lambda ax: plots.mean_and_spread(scores, "accuracy", ax=ax),
        "history": lambda ax: plots.learning_curves(frame, ax=ax),
        "curves": lambda ax: plots.learning_curves(scores, ax=ax),
        "seeds": lambda ax: plots.seed_curves(frames, ["val_loss", "train_loss", "val_accuracy"], ax=ax),
        "reliability": lambda ax: plots.reliability_diagram(bins, ax=ax),
    }
    for name, function in draw.items():
        figure, ax = plt.subplots()
        function(ax)
        training = {"history": 1, "curves": 9, "seeds": 3}.get(name, 0)
        assert sum(line.get_linestyle() == "--" for line in drawn(ax)) == training, name
        assert not any(ax.get_title(loc) for loc in ("left", "center", "right")), name
        plt.close(figure)


def test_no_condition_lies_on_top_of_all_seeds_of_another(scores, ax):
    plots.learning_curves(scores, "accuracy", ax=ax)
    lines = sorted((line for line in drawn(ax) if line.get_linestyle() == "-"), key=lambda line: line.get_zorder())
    assert [line.get_marker() for line in lines] == 3 * ["o", "s", "D"]
    assert len({tuple(line.get_markevery()) for line in lines}) > 1


def test_seed_curves_are_told_apart_by_marker_and_colour(scores, ax):
    frames = {seed: scores["plain", seed]["history"].frame for seed in scores.seeds}
    plots.seed_curves(frames, ["val_loss", "val_accuracy"], ax=ax)
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.lines}
    assert looks == {("C0", "o", "-"), ("C1", "s", "-")}
    assert legend_of(ax) == ["validation loss", "validation accuracy"]


# --- legends -----------------------------------------------------------------------------------------------------------------


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def hidden_by_the_legend(ax):
    """How many pixels of data lie below the legend: seen by drawing the same figure without it, and without the data."""
    figure = ax.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")  # from here on nothing moves
    legend = ax.get_legend()
    box = legend.get_window_extent()
    legend.set_visible(False)
    with_data = pixels(figure)
    for artist in [*ax.lines, *ax.patches, *ax.collections, *ax.texts]:
        artist.set_visible(False)
    changed = (with_data != pixels(figure)).any(-1)
    height, width = changed.shape
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width, "the legend leaves the figure"
    assert box.y1 <= height
    return int(changed[height - int(box.y1) : height - int(box.y0), int(box.x0) : int(box.x1)].sum())


def reliability_of(n, scale=0.5):
    torch.manual_seed(n)
    logits = 3 * torch.randn(n, 10)
    labels = torch.distributions.Categorical(logits=scale * logits).sample()
    return calibration.reliability(logits.softmax(1), labels)


def scattered(rows, columns, seed=0):
    values = np.random.default_rng(seed).uniform(0, 1, (rows, columns))
    return pd.DataFrame(values, columns=[f"condition {number}" for number in range(columns)])


LONG = "a technique with a name that is really long"


def extremes(seed, scale):
    return {"loss": scale * (1 + seed / 10), "history": History([{"val_loss": scale * (10 - epoch)} for epoch in range(10)])}


FAR = experiment.over_seeds(extremes, {LONG: 1e-7, "usual": 1.0, f"{LONG} too": 1e6}, range(3), progress=False)
MANY = experiment.over_seeds(run, {f"{LONG}, number {i}": i / 100 for i in range(10)}, range(10), progress=False)

LEGENDS = {
    "paired, far": lambda ax, s: plots.paired(FAR, ax=ax),
    "spread, far": lambda ax, s: plots.mean_and_spread(FAR, ax=ax),
    "curves, far": lambda ax, s: plots.learning_curves(FAR, ax=ax),
    "curves, many": lambda ax, s: plots.learning_curves(MANY, ax=ax),
    "paired, rising": lambda ax, s: plots.paired(s, "accuracy", ax=ax),
    "paired, limits set afterwards": lambda ax, s: plots.paired(s, "accuracy", ax=ax).set(ylim=(0.69, 0.85)),
    "paired, everywhere": lambda ax, s: plots.paired(scattered(12, 5), ylabel="share", ax=ax).set(ylim=(0, 1)),
    "paired, two": lambda ax, s: plots.paired(scattered(8, 2), ylabel="share", ax=ax),
    "spread": lambda ax, s: plots.mean_and_spread(s, "accuracy", ax=ax),
    "spread, everywhere": lambda ax, s: plots.mean_and_spread(scattered(30, 12), ax=ax),
    "curves": lambda ax, s: plots.learning_curves(s, "accuracy", ax=ax),
    "curves, squeezed": lambda ax, s: plots.learning_curves(s, ax=ax).set(ylim=(0.3, 0.7)),
    "curves with a line more": lambda ax, s: plots.learning_curves(s, ax=ax).plot([1, 8], [1, 0.1]),
    "seeds": lambda ax, s: plots.seed_curves({0: scattered(30, 3)}, ["condition 0", "condition 1"], ax=ax),
    "over-confident": lambda ax, s: plots.reliability_diagram(reliability_of(800), title="Too sure", ax=ax),
    "under-confident": lambda ax, s: plots.reliability_diagram(reliability_of(800, 4.0), ax=ax),
    "few samples": lambda ax, s: plots.reliability_diagram(reliability_of(30), ax=ax),
}


@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize("name", LEGENDS)
def test_a_legend_hides_no_data(name, panels, scores):
    plots.style()
    figure, axes = plt.subplots(1, panels, figsize=(13 if panels > 1 else 7, 4.2), squeeze=False)
    for ax in axes.flat:
        LEGENDS[name](ax, scores)
    for ax in axes.flat:
        assert hidden_by_the_legend(ax) == 0
    plt.close(figure)


def test_the_check_for_hidden_data_finds_a_legend_that_hides(scores):
    plots.style()
    figure, ax = plt.subplots()
    plots.paired(scattered(12, 5), ylabel="share", ax=ax)
    ax.legend(loc="center")
    assert hidden_by_the_legend(ax) > 100
    plt.close(figure)


def test_a_legend_can_be_removed_or_replaced_as_lessons_do(scores, ax):
    plots.paired(scores, "accuracy", ax=ax)
    ax.get_legend().remove()
    assert ax.get_legend() is None
    ax.legend(loc="lower right")
    assert legend_of(ax) == ["one seed", "mean"]


@pytest.mark.parametrize("columns", [2, 4, 9])
def test_names_of_conditions_do_not_overlap(columns):
    plots.style()
    names = ["plain", "mixup, α = 0.2", "class-ordered list", "DisturbLabel", "thresholds chosen for each class"]
    frame = scattered(3, columns).set_axis([f"{names[i % 5]} {'' if i < 5 else i}".strip() for i in range(columns)], axis=1)
    figure, ax = plt.subplots(figsize=(9, 4))
    plots.paired(frame, ylabel="share", ax=ax)
    figure.canvas.draw()
    labels = ax.get_xticklabels()
    if labels[0].get_rotation() == 0:
        boxes = [label.get_window_extent() for label in labels]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert (labels[0].get_rotation() == 0) == (columns < 9)
    plt.close(figure)


# --- reliability -------------------------------------------------------------------------------------------------------------


def test_bins_of_few_samples_are_pale_and_have_no_gap(ax):
    bins = calibration.Reliability(
        edges=torch.linspace(0, 1, 11).double(),
        count=torch.tensor([0, 24, 0, 0, 0, 25, 0, 0, 0, 100]),
        confidence=torch.tensor([0, 0.15, 0, 0, 0, 0.55, 0, 0, 0, 0.95]).double(),
        accuracy=torch.tensor([0, 1.0, 0, 0, 0, 0.6, 0, 0, 0, 1.0]).double(),
    )
    plots.reliability_diagram(bins, ax=ax)
    by_place = {}
    for bar in ax.patches:
        if bar.get_y() >= -1e-9 and bar.get_y() + bar.get_height() >= 0:
            by_place.setdefault(round(bar.get_x(), 2), []).append(bar)
    (pale,) = by_place[0.1]
    assert pale.get_height() == 1.0
    for place in (0.5, 0.9):
        bar, gap = by_place[place]
        assert gap.get_hatch()
        assert loudness(bar) > 3 * loudness(pale)
    assert legend_of(ax) == ["accuracy", "gap", "under 25 samples"]
    assert [label.get_text() for label in ax.get_yticklabels(minor=True)] == ["samples\n(149)"]


def loudness(bar):
    """How far a bar's colour is from white, as it is seen."""
    *color, alpha = bar.get_facecolor()
    return alpha * sum((1 - channel) ** 2 for channel in color) ** 0.5
