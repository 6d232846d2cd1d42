import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler

from course_utils import augment, data
from course_utils.data import DataError, Dataset, Split, TensorLoader

ROOT = Path(__file__).parents[2]


def numbered_images(start, stop, channels=1, side=2):
    """Images that all differ: the first two pixels spell the number."""
    number = torch.arange(start, stop)
    x = torch.zeros(len(number), channels, side, side, dtype=torch.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = number % 256, number // 256
    return x


def split_of(start, stop, classes=2):
    return Split(numbered_images(start, stop), torch.arange(start, stop) % classes)


def dataset(**changed):
    splits = {"train": split_of(0, 8), "val": split_of(8, 12), "test": split_of(12, 16)}
    return Dataset("toy", **(splits | changed), classes=("even", "odd"))


def table(start, stop):
    values = torch.arange(start, stop, dtype=torch.float32)
    return Split(torch.stack([values, values**2], 1), values)


# Bundled sets


@pytest.mark.parametrize(
    ("name", "sizes"), [("fashion-small", (4000, 1000, 4000)), ("mnist-small", (3500, 500, 1000))], ids=["fashion", "mnist"]
)
def test_bundled_images(name, sizes):
    found = data.load(name)
    assert len(found.classes) == 10
    contents = set()
    for split, size in zip((found.train, found.val, found.test), sizes, strict=True):
        assert split.x.shape == (size, 1, 28, 28)
        assert split.x.dtype == torch.uint8
        assert split.y.dtype == torch.int64
        assert split.y.bincount().tolist() == [size // 10] * 10
        contents |= {image.tobytes() for image in split.x.numpy()}
    assert len(contents) == sum(sizes)  # no image stands in two splits, nor twice in one


def test_bundled_images_come_shuffled():
    first = data.load("fashion-small").train.y[:200]
    assert len(first.unique()) == 10


def test_bundled_table():
    boston = data.load("boston")
    assert [tuple(split.x.shape) for split in (boston.train, boston.val, boston.test)] == [(304, 13), (101, 13), (101, 13)]
    assert boston.train.x.dtype == boston.train.y.dtype == torch.float32
    assert boston.classes == ()
    assert 5 <= boston.train.y.min() <= boston.train.y.max() <= 50  # median prices in thousands of dollars


def test_unknown_name_gets_a_suggestion_and_the_known_names():
    with pytest.raises(DataError, match=r"'fashon-small'.*Did you mean 'fashion-small'\?.*mnist-small.*cifar10"):
        data.load("fashon-small")
    with pytest.raises(DataError, match=r"no dataset 'zzz'. Known: fashion-small"):
        data.load("zzz")


@pytest.fixture
def bundle(tmp_path):
    for name in ("boston.npz", "manifest.json"):
        shutil.copy(data.BUNDLED_DIR / name, tmp_path)
    return tmp_path


def flip_a_bit(folder):
    content = bytearray((folder / "boston.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "boston.npz").write_bytes(content)


def cut_in_half(folder):
    content = (folder / "boston.npz").read_bytes()
    (folder / "boston.npz").write_bytes(content[: len(content) // 2])


DAMAGE = {
    "one bit": (flip_a_bit, "is damaged"),
    "half a file": (cut_in_half, "is damaged"),
    "no file": (lambda folder: (folder / "boston.npz").unlink(), "cannot be read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "cannot be read"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text('{"boston.npz": {'), "cannot be read"),
    "manifest without it": (lambda folder: (folder / "manifest.json").write_text("{}"), "cannot be read"),
    "manifest of noise": (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_bundle_is_refused_with_its_cure(bundle, kind):
    assert len(data.load("boston", root=bundle).train.y) == 304
    damage, says = DAMAGE[kind]
    damage(bundle)
    with pytest.raises(DataError, match=rf"boston\.npz.*{says}.*git checkout -- data"):
        data.load("boston", root=bundle)


def bundle_with(folder, content):
    """A file with other content than it should have, and a manifest that agrees with it."""
    path = folder / "boston.npz"
    content(path)
    (folder / "manifest.json").write_text(json.dumps({"boston.npz": {"sha256": data.sha256(path)}}))


@pytest.mark.parametrize(
    "content",
    [
        lambda path: path.write_bytes(b"PK\x03\x04 but no archive"),
        lambda path: np.savez(path, train_x=np.zeros((2, 2), np.float32)),
        lambda path: np.savez(path, train_x=np.array([{"a": 1}]), train_y=np.zeros(1, np.float32)),
    ],
    ids=["no archive", "missing arrays", "pickled objects"],
)
def test_a_file_with_other_content_is_refused_with_its_cure(tmp_path, content):
    bundle_with(tmp_path, content)
    with pytest.raises(DataError, match=r"does not hold what it should.*git checkout -- data"):
        data.load("boston", root=tmp_path)


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def debian_fashion():
    """The folder of Debian's dataset-fashion-mnist; CI has to have it."""
    if not DEBIAN.is_dir():
        reason = "NOT checked against the published Fashion-MNIST: install Debian's dataset-fashion-mnist"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return DEBIAN


def test_rebuilding_gives_the_bundled_files_bit_for_bit(debian_fashion, tmp_path):
    command = [sys.executable, ROOT / "tools" / "build_data.py", "--out", tmp_path, "--fashion", debian_fashion]
    subprocess.run(command, check=True, capture_output=True)
    expected = json.loads((data.BUNDLED_DIR / "manifest.json").read_text())
    for name, facts in expected.items():
        assert data.sha256(tmp_path / name) == facts["sha256"], name
        assert (tmp_path / name).stat().st_size == facts["bytes"], name
    assert {path.name for path in tmp_path.iterdir()} == {*expected, "manifest.json"}


def test_the_digests_are_those_of_the_published_files(debian_fashion):
    found = {
        name: hashlib.sha256(gzip.decompress((debian_fashion / f"{name}.gz").read_bytes())).hexdigest()
        for name in data.PUBLISHED["fashion"].sha256
    }
    assert found == data.PUBLISHED["fashion"].sha256


# Checks of every dataset


WRONG = {
    "empty": ({"val": Split(numbered_images(0, 0), torch.zeros(0, dtype=torch.int64))}, "val split is empty.*at least one"),
    "unequal": ({"test": Split(numbered_images(12, 16), torch.zeros(3, dtype=torch.int64))}, "4 inputs and 3 targets"),
    "label too high": ({"val": Split(numbered_images(8, 10), torch.tensor([0, 2]))}, "labels from 0 to 2.*2 classes"),
    "label negative": ({"val": Split(numbered_images(8, 10), torch.tensor([-1, 0]))}, "labels from -1 to 0"),
    "other shape": ({"val": Split(numbered_images(8, 10, side=3), torch.tensor([0, 1]))}, r"shape \(1, 3, 3\).*\(1, 2, 2\)"),
    "float images": ({"val": Split(numbered_images(8, 10).float(), torch.tensor([0, 1]))}, "torch.float32.*use uint8"),
    "labels in floats": ({"val": Split(numbered_images(8, 10), torch.tensor([0.0, 1.0]))}, "torch.float32.*class indices"),
    "labels in two dimensions": ({"val": Split(numbered_images(8, 10), torch.tensor([[0], [1]]))}, r"int64 \(N,\)"),
    "shared with train": ({"val": split_of(7, 10)}, "1 different samples.*train and the val.*split again"),
    "train shared with test": ({"test": split_of(6, 9)}, "2 different samples.*train and the test"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_data_that_would_mislead_is_refused(kind):
    assert len(dataset().train.y) == 8
    changed, message = WRONG[kind]
    with pytest.raises(DataError, match=message):
        dataset(**changed)


def test_a_label_may_differ_and_the_image_is_still_shared():
    train = split_of(0, 8)
    with pytest.raises(DataError, match="train and the val"):
        dataset(val=Split(train.x[:2], 1 - train.y[:2]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_table_with_a_value_that_is_not_finite_is_refused(value):
    broken = table(4, 6)
    broken.x[0, 1] = value
    with pytest.raises(DataError, match=r"val split has inputs that are not finite.*drop those rows"):
        Dataset("table", table(0, 4), broken, table(6, 8))
    with pytest.raises(DataError, match="regression targets must be finite"):
        Dataset("table", table(0, 4), Split(table(4, 6).x, torch.tensor([1.0, value])), table(6, 8))


def test_regression_with_whole_number_targets_is_refused():
    with pytest.raises(DataError, match="float32"):
        Dataset("table", table(0, 4), Split(table(4, 6).x, torch.tensor([1, 2])), table(6, 8))


@given(st.integers(1, 40), st.sampled_from([1, 3, 4]), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_channel_statistics_equal_the_direct_computation(n, channels, side, seed):
    x = np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)
    marked = torch.zeros(2, channels, side, side, dtype=torch.uint8)
    splits = [Split(torch.from_numpy(x), torch.zeros(n, dtype=torch.int64))]
    for fill in (251, 252):  # two more splits, which must not count
        marked = np.full((1, channels, side, side), fill, np.uint8)
        splits.append(Split(torch.from_numpy(marked), torch.zeros(1, dtype=torch.int64)))
    if any((x == fill).all((1, 2, 3)).any() for fill in (251, 252)):
        return
    found = Dataset("random", *splits, classes=("one",))
    unit = x.astype(np.float64) / 255
    np.testing.assert_allclose(found.mean, unit.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.std, unit.std((0, 2, 3)), rtol=1e-6, atol=1e-7)
    assert found.mean.dtype == found.std.dtype == torch.float32


def test_feature_statistics_equal_the_direct_computation():
    boston = data.load("boston")
    x = boston.train.x.numpy().astype(np.float64)
    np.testing.assert_allclose(boston.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(boston.std, x.std(0), rtol=1e-5)


# Splitting


counts_per_class = st.lists(st.integers(3, 12), min_size=1, max_size=5)


@given(counts_per_class, st.lists(st.integers(0, 1), min_size=1, max_size=3), st.integers(0, 100))
def test_a_balanced_split_is_disjoint_complete_balanced_and_repeatable(counts, per_class, seed):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    parts = data.balanced_split(labels, tuple(per_class), torch.Generator().manual_seed(seed))
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    for part, count in zip(parts, per_class, strict=False):
        assert labels[part].bincount(minlength=len(counts)).tolist() == [count] * len(counts)
    again = data.balanced_split(labels, tuple(per_class), torch.Generator().manual_seed(seed))
    assert all(torch.equal(one, two) for one, two in zip(parts, again, strict=True))


def test_a_balanced_split_comes_shuffled_and_depends_on_the_generator():
    labels = torch.arange(200) // 100
    first, _ = data.balanced_split(labels, (50,), torch.Generator().manual_seed(0))
    second, _ = data.balanced_split(labels, (50,), torch.Generator().manual_seed(1))
    assert set(first.tolist()) != set(second.tolist())
    assert 5 < labels[first[:50]].sum() < 45  # by class they would be all 0


def test_nothing_cannot_be_split():
    with pytest.raises(DataError, match="no labels"):
        data.balanced_split(torch.zeros(0, dtype=torch.int64), (1,), torch.Generator())


def test_a_class_too_small_for_its_parts_is_refused():
    with pytest.raises(DataError, match=r"class 1 has 2 samples.*3 of each class"):
        data.balanced_split(torch.tensor([0, 0, 0, 0, 1, 1]), (1, 2), torch.Generator())


@given(st.integers(8, 30), st.integers(0, 5), st.integers(0, 100))
def test_carving_leaves_out_what_a_later_split_holds_and_counts_it(n, in_test, seed):
    picture = torch.cat([torch.arange(n), torch.randint(n, (10,), generator=torch.Generator().manual_seed(seed))])
    x = numbered_images(0, n + 5)[picture]
    train = Split(x, picture % 2)
    test = Split(numbered_images(n - in_test, n + 5), torch.arange(n - in_test, n + 5) % 2)
    found = data.carve(
        "toy", train, test, classes=("even", "odd"), per_class=2
    )  # Dataset itself checks that splits are disjoint
    assert torch.equal(found.test.x, test.x)
    later = {image.tobytes() for split in (found.val, found.test) for image in split.x.numpy()}
    kept = [image.tobytes() for image in x.numpy() if image.tobytes() not in later]
    assert sorted(kept) == sorted(image.tobytes() for image in found.train.x.numpy())
    assert found.removed == len(x) - len(found.train.y) - len(found.val.y)


def test_carving_counts_the_twins():
    x = numbered_images(0, 10)
    train = Split(torch.cat([x[:8], x[:1]]), torch.zeros(9, dtype=torch.int64))  # image 0 twice, and it stands in test too
    found = data.carve("toy", train, Split(x[[0, 9]], torch.zeros(2, dtype=torch.int64)), classes=("one",), per_class=3)
    assert found.removed == 2
    assert len(found.train.y) + len(found.val.y) == 7


# Published sets, with small fakes in the place of torchvision's


RAW = {f"{part}-{kind}": f"{part} {kind}".encode() for part in ("train", "t10k") for kind in ("images", "labels")}


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Two-class stand-ins for torchvision's classes; what they hold and whether they fail can be changed through the result."""
    plan = SimpleNamespace(n_train=1_020, error=None, calls=[])

    class Fake:
        def __init__(self, root, train, download):
            plan.calls.append((root, train, download))
            if plan.error:
                raise plan.error
            n, start = (plan.n_train, 0) if train else (20, 2_000)
            x = numbered_images(start, start + n, self.channels, self.side)
            self.fill(x, torch.arange(n) % 2, Path(root) / type(self).__name__ / "raw")

    class MNIST(Fake):
        channels, side, classes = 1, 28, ["even", "odd"]

        def fill(self, x, y, raw):
            self.data, self.targets = x[:, 0], y
            raw.mkdir(parents=True, exist_ok=True)
            for name, content in RAW.items():
                (raw / name).write_bytes(content)

    class CIFAR10(Fake):
        channels, side, classes = 3, 32, ["even", "odd"]

        def fill(self, x, y, raw):
            self.data, self.targets = x.permute(0, 2, 3, 1).numpy().copy(), y.tolist()

    monkeypatch.setattr(torchvision.datasets, "MNIST", MNIST)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", CIFAR10)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in RAW.items()}
    monkeypatch.setitem(data.PUBLISHED, "mnist", data.Published("MNIST", (1_020, 20), (1, 28, 28), digests))
    monkeypatch.setitem(data.PUBLISHED, "cifar10", data.Published("CIFAR10", (1_020, 20), (3, 32, 32), {}))
    return plan


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))])
def test_a_published_set_becomes_the_same_kind_of_tensors(published, tmp_path, name, shape):
    found = data.load(name, root=tmp_path)
    assert found.classes == ("even", "odd")
    assert found.val.y.bincount().tolist() == [500, 500]
    assert len(found.train.y) == 20
    assert torch.equal(found.test.x, numbered_images(2_000, 2_020, *shape[:2]))
    for split in (found.train, found.val, found.test):
        assert split.x.shape[1:] == shape
        assert torch.equal(split.x[:, 0, 0, 0] % 2, split.y)  # every image still has its own label
    assert published.calls == [(str(tmp_path), True, True), (str(tmp_path), False, True)]


def test_the_download_folder_can_be_chosen(published, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "mine"))
    assert len(data.load("cifar10").train.y) == 20
    assert published.calls[0][0] == str(tmp_path / "mine")


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RuntimeError("File not found or corrupted."), OSError("disk full"), EOFError("cut")]
)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_failed_download_becomes_an_error_with_the_cure(published, tmp_path, name, error):
    published.error = error
    with pytest.raises(DataError, match=r"could not be loaded.*Delete .* load it again with a network.*fashion-small"):
        data.load(name, root=tmp_path)


def test_files_that_are_not_the_published_ones_are_refused(published, monkeypatch, tmp_path):
    monkeypatch.setitem(data.PUBLISHED["mnist"].sha256, "t10k-labels", "0" * 64)
    with pytest.raises(DataError, match=r"t10k-labels on disk is not the published one.*Delete the folder .*MNIST"):
        data.load("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_published_set_of_another_size_is_refused(published, tmp_path, name):
    published.n_train = 1_019
    with pytest.raises(DataError, match=r"expected 1020 images.*found .1019.*Delete"):
        data.load(name, root=tmp_path)


# TensorLoader


def numbers(n):
    return torch.arange(n, dtype=torch.float32).reshape(n, 1) * 10, torch.arange(n)


@given(st.integers(1, 50), st.integers(1, 60), st.booleans(), st.booleans(), st.integers(0, 100))
def test_a_pass_gives_every_sample_exactly_once(n, batch_size, shuffle, drop_last, seed):
    x, y = numbers(n)
    options = {"shuffle": shuffle, "drop_last": drop_last, "generator": torch.Generator().manual_seed(seed)}
    if drop_last and batch_size > n:
        with pytest.raises(ValueError, match="leave no batch"):
            TensorLoader(x, y, batch_size, **options)
        return
    loader = TensorLoader(x, y, batch_size, **options)
    batches = list(loader)
    assert len(batches) == len(loader)
    full, rest = divmod(n, batch_size)
    assert [len(by) for _, by in batches] == [batch_size] * full + ([rest] if rest and not drop_last else [])
    assert all(torch.equal(bx[:, 0], by * 10.0) for bx, by in batches)  # inputs and targets stay together
    seen = torch.cat([by for _, by in batches])
    assert len(seen.unique()) == len(seen) == (full * batch_size if drop_last else n)
    assert shuffle or torch.equal(seen, torch.arange(len(seen)))


@given(
    st.integers(2, 40),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from(["shuffled", "drawn", "weighted"]),
    st.integers(0, 50),
)
def test_batches_equal_those_of_a_torch_loader_with_an_equal_sampler(n, batch_size, drop_last, kind, seed):
    x, y = numbers(n)

    def sampler():
        generator = torch.Generator().manual_seed(seed)
        if kind == "weighted":
            return WeightedRandomSampler((y + 1.0).tolist(), 2 * n, generator=generator)
        return RandomSampler(y, replacement=kind == "drawn", generator=generator)

    if drop_last and len(sampler()) < batch_size:
        return
    ours = TensorLoader(x, y, batch_size, sampler=sampler(), drop_last=drop_last)
    theirs = DataLoader(TensorDataset(x, y), batch_size, sampler=sampler(), drop_last=drop_last)
    assert len(ours) == len(theirs)
    for _ in range(2):  # the second pass goes on with the generators
        for (ax, ay), (bx, by) in zip(ours, theirs, strict=True):
            assert torch.equal(ax, bx)
            assert torch.equal(ay, by)


def test_without_shuffling_batches_equal_those_of_a_torch_loader():
    x, y = numbers(10)
    for (ax, ay), (bx, by) in zip(TensorLoader(x, y, 4), DataLoader(TensorDataset(x, y), 4), strict=True):
        assert torch.equal(ax, bx)
        assert torch.equal(ay, by)


def test_the_generator_decides_the_order_and_each_pass_has_its_own():
    x, y = numbers(100)

    def two_passes():
        loader = TensorLoader(x, y, 30, shuffle=True, generator=torch.Generator().manual_seed(3))
        return [torch.cat([by for _, by in loader]).tolist() for _ in range(2)]

    first, second = two_passes()
    assert [first, second] == two_passes()
    assert first != second


def test_without_a_generator_the_global_seed_decides_the_order():
    x, y = numbers(100)

    def one_pass():
        torch.manual_seed(4)
        return torch.cat([by for _, by in TensorLoader(x, y, 30, shuffle=True)]).tolist()

    assert one_pass() == one_pass() != list(range(100))


def test_the_batch_transform_is_applied_to_every_batch():
    x, y = numbers(10)
    loader = TensorLoader(x, y, 4, batch_transform=lambda bx, by: (bx + 1, torch.nn.functional.one_hot(by, 10).float()))
    assert torch.equal(torch.cat([bx for bx, _ in loader]), x + 1)
    assert torch.equal(torch.cat([by for _, by in loader]), torch.eye(10))


def test_the_stored_tensors_stay_as_they_are_whatever_is_done_to_a_batch():
    x, y = numbered_images(0, 20, 3, 8), torch.arange(20)
    before = x.clone(), y.clone()
    transform = augment.chain(augment.random_crop(2), augment.random_flip(), augment.normalize(torch.zeros(3), torch.ones(3)))

    def careless(bx, by):
        bx.zero_()
        by.zero_()
        return bx, by

    for batch_transform in (transform, careless):
        loader = TensorLoader(x, y, 8, batch_transform=batch_transform)
        for bx, by in loader:
            bx.add_(1)
            by.add_(1)
        assert torch.equal(loader.x, before[0])
        assert torch.equal(loader.y, before[1])


@pytest.mark.parametrize(
    "sampler",
    [
        np.array([3, 0, 2]),
        list(np.array([3, 0, 2], dtype=np.int16)),
        [torch.tensor(3), torch.tensor(0), torch.tensor(2)],
        torch.tensor([3, 0, 2], dtype=torch.uint8),
        (3, 0, 2),
    ],
    ids=["array", "NumPy's integers", "tensors", "tensor", "tuple"],
)
def test_a_sampler_may_give_whole_numbers_of_any_kind(sampler):
    loader = TensorLoader(*numbers(4), 2, sampler=sampler)
    assert torch.cat([y for _, y in loader]).tolist() == [3, 0, 2]
    assert len(loader) == 2


def test_a_sampler_that_falls_silent_later_is_named():
    class Once(list):
        def __iter__(self):
            items = [*super().__iter__()]
            self[:] = []
            return iter(items)

    loader = TensorLoader(*numbers(4), 2, sampler=Once([1, 2]))
    assert len(list(loader)) == 1
    with pytest.raises(ValueError, match="at least one"):
        list(loader)


def test_targets_come_to_the_device_of_the_inputs():
    x, y = numbers(4)
    assert TensorLoader(x.to("meta"), y, 2).y.device.type == "meta"


def test_constant_channels_and_features_have_no_spread():
    """Rounding would leave them a tiny one, or none that is a number, to be divided by."""
    for value in (7, 77, 201, 255):
        images = [Split(torch.full((1, 2, 3, 3), value, dtype=torch.uint8), torch.tensor([0])) for _ in range(3)]
        for place, split in enumerate(images):
            split.x[:, 1] = place
        assert Dataset("constant", *images, classes=("a",)).std.tolist() == [0, 0]
    x = torch.cat([torch.full((1001, 1), 0.1), torch.arange(1001.0)[:, None]], 1)
    parts = [Split(rows, torch.zeros(len(rows))) for rows in (x[:999], x[999:1000], x[1000:])]
    std = Dataset("table", *parts).std
    assert std[0] == 0
    assert std[1] > 200


def test_negative_zero_is_zero_where_samples_are_compared():
    parts = [table(place, place + 2) for place in (0, 2, 4)]
    parts[0].x[0], parts[1].x[1] = 0.0, -0.0
    with pytest.raises(DataError, match="train and the val"):
        Dataset("table", *parts)


REFUSED = {
    "no samples": ({"n": 0}, ValueError, "at least one"),
    "targets missing": ({"targets": 3}, ValueError, "got 4 and 3"),
    "batch size 0": ({"batch_size": 0}, ValueError, "batch_size is 0"),
    "shuffle and sampler": ({"shuffle": True, "sampler": [0]}, ValueError, "either shuffle=True or a sampler"),
    "nothing left": ({"batch_size": 5, "drop_last": True}, ValueError, "leave no batch"),
    "short sampler": ({"sampler": [1], "batch_size": 2, "drop_last": True}, ValueError, "1 samples.*leave no batch"),
    "empty sampler": ({"sampler": []}, ValueError, "sampler has no position.*no batch"),
    "empty sampler, dropping": ({"sampler": [], "drop_last": True}, ValueError, "sampler has no position.*no batch"),
    "sampler of floats": ({"sampler": [0.0, 1.5]}, ValueError, "torch.float32.*whole numbers"),
    "sampler of a mask": ({"sampler": [True, False, True]}, ValueError, "torch.bool.*whole numbers"),
    "sampler of lists": ({"sampler": [[0, 1], [2, 3]]}, ValueError, r"\(2, 2\).*one by one"),
    "sampler of unequal lists": ({"sampler": [[0, 1], [2]]}, ValueError, "one by one"),
    "sampler of words": ({"sampler": ["0", "1"]}, ValueError, "'0'.*whole numbers"),
    "sampler without length": ({"sampler": iter([0, 1])}, ValueError, "no length.*list"),
    "position too high": ({"sampler": [0, 4]}, IndexError, "positions 0 to 4; there are 4"),
    "position negative": ({"sampler": [-1, 2]}, IndexError, "positions -1 to 2"),
    "generator elsewhere": (
        {"generator": SimpleNamespace(device=torch.device("cuda"))},
        ValueError,
        r"lives on cuda.*torch\.Generator\(\)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_loader_that_cannot_work_is_refused(kind):
    options, error, message = REFUSED[kind]
    options = {"batch_size": 2} | options
    x, y = numbers(options.pop("n", 4))
    y = y[: options.pop("targets", len(y))]
    with pytest.raises(error, match=message):
        list(TensorLoader(x, y, **options))


# --- what every lesson trains and tests on -----------------------------------------------------------------------------------


def same_batches(ours, theirs):
    pairs = list(zip(ours, theirs, strict=True))
    return all(torch.equal(x, other_x) and torch.equal(y, other_y) for (x, y), (other_x, other_y) in pairs)


def test_shuffled_and_in_order_are_the_loaders_that_lessons_write_by_hand():
    clothes = data.load("fashion-small")
    normalized = augment.normalize(clothes.mean, clothes.std)
    for size, split, transform in ((64, clothes.train.first(200), normalized), (10, (clothes.val.x, clothes.val.y), None)):
        order = torch.Generator().manual_seed(3)
        by_hand = TensorLoader(*split, size, shuffle=True, generator=order, batch_transform=transform, device="cpu")
        ours = data.shuffled(split, 3, transform, batch_size=size)
        assert same_batches(ours, by_hand)
        assert same_batches(ours, by_hand), "the second pass, in its own order"
        by_hand = TensorLoader(*split, size, batch_transform=transform, device="cpu")
        assert same_batches(data.in_order(split, transform, batch_size=size), by_hand)
    assert len(data.shuffled(clothes.train, 0)) == -(-len(clothes.train.y) // 64)
    assert len(data.in_order(clothes.train)) == -(-len(clothes.train.y) // 1000)


def test_orders_change_with_the_pass_and_with_the_seed():
    x, y = numbers(50)
    orders = []
    for seed in (0, 0, 1):
        loader = data.shuffled((x, y), seed)
        orders.append([torch.cat([targets for _, targets in loader]).tolist() for _ in range(2)])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert orders[0] != orders[2]
    assert sorted(orders[2][1]) == sorted(y.tolist())


def test_loaders_stand_on_the_device_of_the_profile_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(data.runtime, "device", lambda: torch.device("meta"))
    split = Split(*numbers(4))
    for loader in (data.shuffled(split, 0), data.in_order(split)):
        assert loader.x.device.type == loader.y.device.type == "meta"
    for loader in (data.shuffled(split, 0, device="cpu"), data.in_order(split, device="cpu")):
        assert loader.x.device.type == "cpu"


def test_what_is_no_split_and_no_seed_is_refused():
    digits = data.load("mnist-small")
    for make in (lambda split: data.shuffled(split, 0), data.in_order):
        for split, words in ((digits, "such as dataset.train"), (digits.train.x, "split is a Tensor"), ((1, 2, 3), "tuple")):
            with pytest.raises(ValueError, match=words):
                make(split)
    for seed in (-1, 0.5, None):
        with pytest.raises(ValueError, match="seed is"):
            data.shuffled(digits.val, seed)
    with pytest.raises(ValueError, match="batch_transform is 32; give a function, and sizes by name"):
        data.shuffled(digits.val, 0, 32)
    with pytest.raises(ValueError, match="batch_transform is 0"):
        data.in_order(digits.val, 0)


def test_the_first_samples_of_a_split():
    train = data.load("mnist-small").train
    with pytest.raises(ValueError, match="give one target for each"):
        data.Split(train.x, train.y[:9]).first(7)  # the first seven of each may not belong together
    few = train.first(7)
    assert isinstance(few, Split)
    assert torch.equal(few.x, train.x[:7])
    assert torch.equal(few.y, train.y[:7])
    assert len(train.first(len(train.y)).y) == len(train.y)
    for n in (0, -1, len(train.y) + 1, 2.5):
        with pytest.raises(ValueError, match=f"n is {n}.*from 1 to {len(train.y)}"):
            train.first(n)
