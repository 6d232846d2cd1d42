import importlib.util
import subprocess
import sys
from importlib import metadata

# In Colab: install the package, and pin what must stay as it is.
if importlib.util.find_spec("course_utils") is None:
    here = {item.name: item.version for item in metadata.distributions()}
    pins = [f"{name}=={here[name]}" for name in ("torch", "torchvision", "numpy") if name in here]
    package = "course-utils @ git+@REPOSITORY@"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", package, *pins], check=True)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import augment, check, data, models, plots, record, runtime, train

plots.style()
device = runtime.device()
print(f"profile {runtime.profile()}, device {device}, torch {torch.__version__}")
