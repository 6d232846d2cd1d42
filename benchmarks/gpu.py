"""Train ResNet-18 at full size on a GPU, by the lecture's recipe and by a short one, and keep what comes out.

The four arms of lesson 13 (plain, mixup, label smoothing, both), on full Fashion-MNIST and CIFAR-10. Seeds run outermost, so
that all arms of a result have the same ones, and a seed begins only where it fits into the time that is left. A stopped
command goes on where it was: finished runs are in results/gpu, the one under way in a checkpoint. `make gpu`, or
`python benchmarks/gpu.py`.
"""

import argparse
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course_utils import augment, calibration, data, files, practical, precision, record, runtime, train

ROOT = Path(__file__).parent.parent
TITLES = {"fashion": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10 (JPEG copy)"}


def cifar_from_jpeg(path: Path) -> data.Dataset:
    """CIFAR-10 from a file of JPEG images, decoded once. Splits follow the rule of `data.load`, in the order of the file.

    Args:
        path: an .npz with ``classes``, and for ``train`` and ``test``: ``*_jpeg``, the bytes of all images; ``*_offset``, where
            each begins, and the end; ``*_label``.

    Raises:
        DataError: the file cannot be read, or does not hold that.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            classes = tuple(str(word) for word in arrays["classes"])
            train_split, test_split = (_decoded(arrays, part) for part in ("train", "test"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        needs = "arrays classes, train_jpeg, train_offset, train_label, test_jpeg, test_offset and test_label"
        raise data.DataError(f"{path} is not CIFAR-10 as JPEG ({error}). It must be an .npz with the {needs}.") from error
    return data.carve("cifar10-jpeg", train_split, test_split, classes=classes, per_class=500)


def _decoded(arrays: Mapping[str, np.ndarray], part: str) -> data.Split:
    content, labels = arrays[f"{part}_jpeg"].tobytes(), torch.from_numpy(arrays[f"{part}_label"]).long()
    places = list(itertools.pairwise(arrays[f"{part}_offset"].tolist()))
    if len(places) != len(labels):
        raise ValueError(f"{part} has {len(places)} images and {len(labels)} labels")
    images = np.stack([np.asarray(Image.open(io.BytesIO(content[start:end])).convert("RGB")) for start, end in places])
    return data.Split(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels)


def precision_of(device: torch.device) -> torch.dtype:
    """What `train.fit` computes in: bf16, but on old GPUs fp16, and where neither pays fp32."""
    return precision.choose(device, "auto") or torch.float32


class Job:
    """One dataset and one recipe: the runs that are done, in a file, and how to do another.

    Args:
        dataset, recipe, device: what is trained, how and where.
        peak: from `practical.matmul_rate`, on this device and in this process.
        out: folder of the result; ``None`` writes nothing.
        checkpoints: folder for the run under way.
        quick: a few batches, one epoch and a narrow network, for a smoke run.
        clock: seconds.

    Raises:
        ValueError: there is a result of another device, version or recipe, or one that cannot be read.
    """

    def __init__(
        self,
        dataset: data.Dataset,
        recipe: practical.Recipe,
        device: torch.device,
        *,
        peak: float,
        out: Path | None,
        checkpoints: Path,
        quick: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"{dataset.name}_{recipe.name}"
        self.recipe = replace(recipe, epochs=1, batch_size=64) if quick else recipe
        self.device, self.peak, self.clock = device, peak, clock
        self.width, self.num_classes = 8 if quick else 64, len(dataset.classes)
        splits = [dataset.train, dataset.val, dataset.test]
        if quick:  # from the whole split, which may be in the order of its classes
            splits = [data.Split(*(part[:: max(1, len(part) // 128)][:128] for part in split)) for split in splits]
        self.train, self.val, self.test = (data.Split(split.x.to(device), split.y.to(device)) for split in splits)
        self.normalize = augment.normalize(dataset.mean, dataset.std)
        flops = practical.flops_of_an_image(self.train.x.shape[1:], self.num_classes, self.width)
        machine = record.machine()
        header = {
            "dataset": dataset.name,
            "title": TITLES[dataset.name],
            "images": {"train": len(self.train.y), "val": len(self.val.y), "test": len(self.test.y)},
            "recipe": {
                **asdict(self.recipe),
                "mixup_alpha": practical.MIXUP_ALPHA,
                "smoothing_alpha": practical.SMOOTHING_ALPHA,
            },
            "width": self.width,
            "quick": quick,
            "device": machine["processor"],
            "precision": str(precision_of(device)).removeprefix("torch."),
            "versions": machine["versions"],
            "gflop_per_epoch": flops * len(self.train.y) / 1e9,
        }
        self.header = json.loads(json.dumps(header))  # as it comes back from a file
        self.path = out / f"{self.name}.json" if out is not None else None
        digest = zlib.crc32(json.dumps(header).encode())  # a run never goes on under other settings
        self.checkpoints = checkpoints / f"{self.name}_{digest:08x}"
        self.rows = self._read()
        self.epoch_seconds: float | None = None

    def _read(self) -> list[dict]:
        if self.path is None or not self.path.exists():
            return []
        cure = "Move it away, or give another folder with --out."
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            rows = content.pop("rows")
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.path} is not a result of this benchmark ({error!r}). {cure}") from error
        if other := [key for key in self.header if content.get(key) != self.header[key]]:
            raise ValueError(f"{self.path} was measured with another {', '.join(other)}, and would be mixed up. {cure}")
        return rows

    def missing(self, seed: int) -> list[str]:
        """Arms that this seed has no result for."""
        done = {row["arm"] for row in self.rows if row["seed"] == seed}
        return [arm for arm in practical.ARMS if arm not in done]

    def seconds_for(self, seed: int) -> float:
        """What the missing arms of a seed will take, from the time of an epoch here."""
        arms = self.missing(seed)
        if not arms:
            return 0.0
        if self.epoch_seconds is None:
            self.epoch_seconds = self.probe()
        return self.epoch_seconds * sum(self.recipe.epochs - self._epochs_done(arm, seed) for arm in arms)

    def run(self, seed: int) -> None:
        """Train the missing arms of a seed; each result is written at once."""
        for arm in self.missing(seed):
            checkpoint = self._checkpoint(arm, seed) if self.path else None
            epochs = self.recipe.epochs - self._epochs_done(arm, seed)
            start = self.clock()
            self.rows.append(self._trained(arm, seed, checkpoint))
            if epochs:
                self.epoch_seconds = (self.clock() - start) / epochs  # evaluation and checkpoints included
            if self.path is not None and checkpoint is not None:
                content = {**self.header, "rows": self.rows}
                files.write_text(self.path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
                checkpoint.unlink()
            print(self._line(self.rows[-1]), flush=True)

    def _trained(self, arm: str, seed: int, checkpoint: Path | None) -> dict:
        model, history = self._fitted(self.train, arm, self.recipe, seed, checkpoint, progress=sys.stdout.isatty())
        seconds = statistics.median(row["seconds"] for row in history.rows)
        flops = 1e9 * self.header["gflop_per_epoch"] / seconds
        _, _, val_accuracy = self._scores(model, self.val)
        logits, labels, test_accuracy = self._scores(model, self.test)
        return {
            "arm": arm,
            "seed": seed,
            "test_accuracy": test_accuracy,
            "ece": calibration.ece(logits.softmax(1), labels).item(),
            "val_accuracy": val_accuracy,
            "seconds_per_epoch": seconds,
            "tflops": flops / 1e12,
            "matmul_tflops": self.peak / 1e12,
            "utilisation": flops / self.peak,
        }

    def _fitted(
        self, split: data.Split, arm: str, recipe: practical.Recipe, seed: int, checkpoint: Path | None, *, progress: bool
    ) -> tuple[torch.nn.Module, train.History]:
        return practical.train_arm(
            split,
            arm,
            recipe,
            seed,
            self.normalize,
            self.num_classes,
            width=self.width,
            checkpoint=checkpoint,
            progress=progress,  # no bars in a log file
        )

    def _scores(self, model: torch.nn.Module, split: data.Split) -> tuple[Tensor, Tensor, float]:
        logits, labels = train.predict(model, data.TensorLoader(*split, 1000, batch_transform=self.normalize))
        return logits, labels, (logits.argmax(1) == labels).double().mean().item()

    def probe(self) -> float:
        """Seconds of an epoch and its checkpoint, from the second of two epochs of at most 50 batches."""
        split = data.Split(*(part[: 50 * self.recipe.batch_size] for part in self.train))
        recipe = replace(self.recipe, epochs=2)
        with tempfile.TemporaryDirectory() as folder:
            start = self.clock()
            kept = Path(folder) / "probe.pt" if self.path else None
            _, history = self._fitted(split, "both", recipe, 0, kept, progress=False)
            wall = self.clock() - start
        training = [row["seconds"] for row in history.rows]
        return training[1] * len(self.train.y) / len(split.y) + max(0.0, wall - sum(training)) / 2

    def _checkpoint(self, arm: str, seed: int) -> Path:
        return self.checkpoints / f"{arm}-{seed}.pt"

    def _epochs_done(self, arm: str, seed: int) -> int:
        path = self._checkpoint(arm, seed)
        if self.path is None or not path.exists():
            return 0
        try:
            return len(torch.load(path, map_location="cpu", weights_only=True)["history"]["rows"])
        except Exception:  # `fit` says what is wrong with it, and what to do
            return 0

    def _line(self, row: dict) -> str:
        return (
            f"{TITLES[self.header['dataset']]}, {self.recipe.name}, seed {row['seed']}, {row['arm']:<9} "
            f"test accuracy {row['test_accuracy']:.4f}, ECE {row['ece']:.4f}, {row['seconds_per_epoch']:.2f} s an epoch, "
            f"{row['utilisation']:.1%} of the matrix peak"
        )


def run(jobs: list[Job], minutes: float, *, seeds: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
    """Train seed after seed, in all jobs by turns, until the next one would not fit (or ``seeds`` are done)."""
    end = clock() + 60 * minutes
    going = list(jobs)
    for seed in range(seeds) if seeds is not None else itertools.count():
        for job in list(going):
            needed, left = job.seconds_for(seed), max(0.0, end - clock())
            if needed > left:
                times = f"needs about {needed / 60:.1f} minutes, and {left / 60:.1f} are left"
                print(f"{job.name}: seed {seed} {times}. To go on, run it again with more --minutes.", flush=True)
                going.remove(job)
            else:
                job.run(seed)
        if not going:
            return


def summary(job: Job) -> str:
    """A line an arm: mean and range over the seeds that all arms have."""
    lines = [f"\n{job.header['title']}, {job.recipe.name} recipe, {job.header['device']}, {job.header['precision']}"]
    whole = [seed for seed in sorted({row["seed"] for row in job.rows}) if not job.missing(seed)]
    for arm in practical.ARMS if whole else ():
        rows = [row for row in job.rows if row["arm"] == arm and row["seed"] in whole]
        shown = []
        for key, name in (("test_accuracy", "test accuracy"), ("ece", "ECE")):
            values = [row[key] for row in rows]
            shown.append(f"{name} {statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        lines.append(f"  {arm:<9} {', '.join(shown)}, {len(whole)} seeds")
    return "\n".join(lines if whole else [*lines, "  no seed is whole yet"])


def gpu() -> torch.device:
    """The GPU of this machine, whatever profile the shell asks for; without one the command ends."""
    os.environ["COURSE_PROFILE"] = "gpu"
    try:
        return runtime.device()
    except RuntimeError:
        sys.exit("torch sees no GPU here, and this measures one: nothing was run. All else needs none (`make help`).")


def load(name: str, root: Path | None, jpeg: Path | None) -> data.Dataset:
    """A full dataset; with ``jpeg``, CIFAR-10 from there."""
    return cifar_from_jpeg(jpeg) if name == "cifar10" and jpeg is not None else data.load(name, root)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the means, write the files."""
    files.spell_out()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="no seed begins that would end later (default: 30)")
    parser.add_argument("--seeds", type=int, help="no more seeds than these (default: as many as fit; 1 with --quick)")
    parser.add_argument("--datasets", nargs="+", choices=("fashion", "cifar10"), default=["fashion", "cifar10"])
    parser.add_argument("--recipes", nargs="+", choices=tuple(practical.RECIPES), default=list(practical.RECIPES))
    parser.add_argument(
        "--data", type=Path, help="folder of torchvision's files; missing ones are downloaded (default: COURSE_DATA or a cache)"
    )
    parser.add_argument("--cifar-jpeg", type=Path, help="take CIFAR-10 from this .npz of JPEG images, and name it so")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results/gpu; none with --quick)")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "build" / "gpu", help="folder of the runs under way")
    parser.add_argument("--quick", action="store_true", help="a smoke run on any device: the numbers mean nothing")
    parser.add_argument("--check", action="store_true", help="only say whether there is a GPU")
    options = parser.parse_args(arguments)
    if not options.minutes > 0 or (options.seeds is not None and options.seeds < 1):
        parser.error("--minutes must be above 0, and --seeds at least 1.")
    device = runtime.device() if options.quick else gpu()
    if options.check:
        print(f"GPU: {record.machine()['processor']}")
        return
    torch.backends.cudnn.benchmark = True
    out = options.out or (None if options.quick else ROOT / "results" / "gpu")
    peak = practical.matmul_rate(device)
    print(f"{record.machine()['processor']}: {peak / 1e12:.3g} TFLOP/s in matrix products", flush=True)
    settings = {"peak": peak, "out": out, "checkpoints": options.checkpoints, "quick": options.quick}
    try:
        datasets = [load(name, options.data, options.cifar_jpeg) for name in options.datasets]
        jobs = [Job(dataset, practical.RECIPES[name], device, **settings) for name in options.recipes for dataset in datasets]
    except ValueError as error:
        sys.exit(str(error))
    try:
        run(jobs, options.minutes, seeds=options.seeds or (1 if options.quick else None))
    except KeyboardInterrupt:
        sys.exit("stopped: the same command goes on from here")
    for job in jobs:
        print(summary(job))
    if not any(job.rows for job in jobs):
        sys.exit("Nothing was measured.")
    if out is not None:
        print(f"\nwritten to {out}")


if __name__ == "__main__":
    main()
