"""The look of figures is seaborn's, without the time that importing seaborn takes."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import seaborn as sns
import torch
from matplotlib.colors import to_hex

from course_utils import plots

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
