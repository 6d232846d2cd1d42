"""Where and how large a lesson runs: profile, budget, device, rank, seeds, progress, and a check of the environment."""

import contextlib
import contextvars
import os
import platform
import random
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import torch
from tqdm import tqdm

from course_utils import files, valid

_PROFILES = ("ci", "cpu", "gpu")
_WITHOUT_BARS = contextvars.ContextVar("_WITHOUT_BARS", default=False)


def profile() -> str:
    """Name of the running profile: ``"ci"``, ``"cpu"`` or ``"gpu"``.

    ``COURSE_PROFILE`` decides; unset, it is ``"gpu"`` when CUDA or MPS is there and ``"cpu"`` otherwise.
    Built in lesson 00.

    Raises:
        ValueError: ``COURSE_PROFILE`` holds another word.
    """
    name = os.environ.get("COURSE_PROFILE", "").strip()
    if not name:
        return "gpu" if _accelerator() else "cpu"
    if name not in _PROFILES:
        raise ValueError(f"COURSE_PROFILE is {name!r}; it must be one of {', '.join(_PROFILES)}, or unset.")
    return name


def device() -> torch.device:
    """Device to train on: an accelerator under the ``gpu`` profile, the CPU under ``ci`` and ``cpu``.

    Under torchrun each worker of a machine gets a GPU of its own, which becomes torch's current one.

    Raises:
        RuntimeError: the profile is ``gpu`` and this machine has neither CUDA nor MPS, or fewer GPUs than workers.
    """
    if profile() != "gpu":
        return torch.device("cpu")
    name = _accelerator()
    if name is None:
        raise RuntimeError(f"COURSE_PROFILE is gpu, but torch sees no GPU here: {_no_gpu_cure()}.")
    if name == "cuda" and world_size() > 1:
        local, count = _from_torchrun("LOCAL_RANK", 0), torch.cuda.device_count()
        if local >= count:
            raise RuntimeError(f"this machine has {count} GPUs, one for each worker: use torchrun --nproc-per-node={count}.")
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return torch.device(name)


def rank() -> int:
    """Number of this worker among those that torchrun started, from 0; without torchrun 0. Only rank 0 writes files."""
    return _from_torchrun("RANK", 0)


def world_size() -> int:
    """How many workers torchrun started, over all machines; without torchrun 1."""
    return _from_torchrun("WORLD_SIZE", 1)


def _from_torchrun(name: str, otherwise: int) -> int:
    return int(os.environ[name]) if "TORCHELASTIC_RUN_ID" in os.environ else otherwise


def _accelerator() -> str | None:
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return None


def _in_colab() -> bool:
    """Whether this is a Google Colab kernel."""
    return "google.colab" in sys.modules


def _no_gpu_cure() -> str:
    if _in_colab():
        return "choose Runtime > Change runtime type > GPU, then run the notebook again"
    return "unset COURSE_PROFILE to run on the CPU"


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (torch seeds every device).

    Call it right before the model is created: the weights depend on it. Built in lesson 00.

    Args:
        seed: whole number from 0 to 2**32 - 1; NumPy's integers and tensors with one number are taken too.

    Raises:
        ValueError: ``seed`` is not a whole number, is negative, or does not fit into 32 bits, which NumPy cannot take.
    """
    seed = valid.whole_number(seed, "seed", 0, 2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global state is what has to be seeded
    torch.manual_seed(seed)


def seeds(count: int) -> list[int]:
    """Seeds of the repeated runs of an experiment: ``0 .. count - 1``, or those in ``COURSE_SEEDS`` (``"3,4,5"``).

    Raises:
        ValueError: ``count`` is not a whole number, or is negative; ``COURSE_SEEDS`` is not a comma-separated list of different
            whole numbers.
    """
    count = valid.whole_number(count, "count", 0)
    text = os.environ.get("COURSE_SEEDS", "").strip()
    if not text:
        return list(range(count))
    try:
        chosen = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"COURSE_SEEDS is {text!r}; write whole numbers with commas between, as in 3,4,5.") from None
    if len(set(chosen)) != len(chosen) or min(chosen) < 0:
        raise ValueError(f"COURSE_SEEDS is {text!r}; the seeds must be different from each other and not negative.")
    return chosen


def budget(*, ci: dict, cpu: dict, gpu: dict) -> SimpleNamespace:
    """Sizes of a lesson's experiments under the running profile, as attributes.

    The only switch between profiles in a lesson (lesson 00).

    Args:
        ci, cpu, gpu: sizes under each profile, by name; the same names in all three.

    Raises:
        ValueError: the three profiles do not name the same sizes.

    >>> budget(ci=dict(epochs=1), cpu=dict(epochs=20), gpu=dict(epochs=20)).epochs >= 1
    True
    """
    choices = {"ci": ci, "cpu": cpu, "gpu": gpu}
    names = set(ci) | set(cpu) | set(gpu)
    for label, sizes in choices.items():
        if missing := names - set(sizes):
            raise ValueError(f"budget(): profile {label} lacks {', '.join(sorted(missing))}; give all profiles the same.")
    return SimpleNamespace(**choices[profile()])


def progress(iterable: Iterable | None = None, description: str = "", total: int | None = None, show: bool = True) -> tqdm:
    """Progress bar in plain text on standard output: one look in JupyterLab, Colab, a terminal and a rendered page.

    Under torchrun, rank 0 alone shows it; within `without_bars`, nobody.

    Args:
        iterable: what the bar counts; ``None`` for a bar that is moved by its ``update``.
        description: stands before the bar.
        total: steps, where the iterable has no length.
        show: ``False`` for no bar.

    Widget bars would leave an empty "0%" behind in a saved page, and standard error would paint the bar red.
    """
    layout = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    options = {
        "desc": description,
        "total": total,
        "disable": not show or rank() > 0 or _WITHOUT_BARS.get(),
        "bar_format": layout,
    }
    return tqdm(iterable, **options, file=_Output(), ncols=100, mininterval=0.5)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Within it `progress` shows no bar: for the steps of longer work that has a bar of its own."""
    token = _WITHOUT_BARS.set(True)
    try:
        yield
    finally:
        _WITHOUT_BARS.reset(token)


class _Output:
    """Standard output, whichever it is at the moment; characters that it cannot show are spelled out, as by `files.say`."""

    def write(self, text: str) -> None:
        print(files.shown(text), end="")

    def flush(self) -> None:
        print(end="", flush=True)

    def __getattr__(self, name: str) -> object:
        return getattr(sys.stdout, name)


def check_environment() -> list[dict]:
    """Check Python, every required package, the torch/torchvision pair and the device.

    Returns:
        One dict per check: ``what``, ``found``, ``ok`` and ``fix`` (plain-language advice, empty when ``ok``).
        Lesson 00 shows it as a table.
    """
    from packaging.requirements import Requirement

    rows = [_row("Python", platform.python_version(), sys.version_info >= (3, 11), "Install Python 3.11 or newer.")]
    try:
        requirements = metadata.requires("course-utils") or []
    except metadata.PackageNotFoundError:  # imported from a folder that PYTHONPATH names
        requirements = []
        rows.append(_row("course-utils", "not installed", False, "In the folder of the course, run: pip install -e ."))
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        fix = f'Run: pip install "{requirement.name}{requirement.specifier}", then restart the kernel.'
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            rows.append(_row(requirement.name, "missing", False, fix))
            continue
        rows.append(_row(requirement.name, found, requirement.specifier.contains(found, prereleases=True), fix))
    rows.append(_torchvision_row())
    name = _accelerator()
    wants_gpu = os.environ.get("COURSE_PROFILE", "").strip() == "gpu"
    threads = torch.get_num_threads()
    rows.append(
        _row(
            "device",
            f"{name or 'CPU'}, {threads} CPU thread{'' if threads == 1 else 's'}",
            name is not None or not wants_gpu,
            f"COURSE_PROFILE asks for a GPU and torch sees none: {_no_gpu_cure()}.",
        )
    )
    return rows


def _torchvision_row() -> dict:
    what = "torchvision fits torch"
    try:
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:  # a mismatched pair fails in many ways, and the reader wants the cure, not the traceback
        fix = "The two are not a matching pair. Run: pip install --upgrade torch torchvision, then restart the kernel."
        return _row(what, f"{type(error).__name__}: {error}"[:80], False, fix)
    return _row(what, "yes", True, "")


def _row(what: str, found: str, ok: bool, fix: str) -> dict:
    return {"what": what, "found": found, "ok": ok, "fix": "" if ok else fix}
