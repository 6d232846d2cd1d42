# @title Set-up: in Colab, install the course beside its torch; then import
import sys
from importlib import metadata, util
from subprocess import PIPE, run

if util.find_spec("course_utils") is None:
    here = {item.name: item.version for item in metadata.distributions()}
    asked = ["course-utils @ git+@REPOSITORY@@@TAG@"]
    asked += [f"{name}=={here[name]}" for name in ("torch", "torchvision", "numpy") if name in here]
    pip = run([sys.executable, "-m", "pip", "install", "--quiet", *asked], stderr=PIPE)
    assert pip.returncode == 0, f"""pip says: {pip.stderr.decode(errors="replace")[-900:]}
In Colab: connect to the network, then run this cell again. On your own computer: choose the kernel
of the course's environment (`make lab` opens it), or `pip install -e .` where this kernel runs."""
    print("Installed. If a line below fails, restart the kernel, then run this cell again.")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from course_utils import augment, check, data, experiment, models, plots, record
from course_utils import runtime, train

plots.style()
device = runtime.device()
print(f"profile {runtime.profile()}, device {device}, torch {torch.__version__}")
