"""The GPU benchmark, small and on the CPU: files, the same seeds in all arms, going on after a stop, and the limit of time."""

import importlib
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

from course_utils import data, practical, record, train

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tools")]
gpu = importlib.import_module("gpu")
claims = importlib.import_module("claims")
CPU = torch.device("cpu")
ROW = ("arm", "seed", "test_accuracy", "ece", "val_accuracy", "seconds_per_epoch", "tflops", "matmul_tflops", "utilisation")


def splits_of(shape, per_class=(20, 15, 15)):
    """Splits of random images, a class after the other."""
    generator = torch.Generator().manual_seed(0)
    for count in per_class:
        x = torch.randint(256, (10 * count, *shape), dtype=torch.uint8, generator=generator)
        yield data.Split(x, torch.arange(10).repeat_interleave(count))


@pytest.fixture(scope="module")
def fashion():
    return data.Dataset("fashion", *splits_of((1, 28, 28)), classes=tuple("abcdefghij"))


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory):
    """CIFAR-10 as JPEG in the layout that the benchmark reads, with 501 random images a class to train on."""
    arrays = {"classes": np.array([f"class {label}" for label in range(10)])}
    for part, (x, y) in zip(("train", "test"), splits_of((3, 32, 32), (501, 13)), strict=True):
        files = []
        for image in x.permute(0, 2, 3, 1).numpy():
            file = io.BytesIO()
            Image.fromarray(image).save(file, "jpeg")
            files.append(file.getvalue())
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), dtype=np.uint8)
        arrays[f"{part}_offset"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_label"] = y.numpy().astype(np.uint8)
    path = tmp_path_factory.mktemp("jpeg") / "cifar10-jpeg.npz"
    np.savez(path, **arrays)
    return path


class Clock:
    """Time that passes only in training, so many seconds an epoch, of which nothing else comes."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.epochs = 0.0, 0

        def fit(model, train_loader, *, epochs, checkpoint, **options):
            self.now += seconds * epochs
            self.epochs += epochs
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.touch()
            return train.History([{"seconds": seconds}] * epochs)

        monkeypatch.setattr(gpu.train, "fit", fit)
        monkeypatch.setattr(gpu.Job, "probe", lambda job: seconds)

    def __call__(self):
        return self.now


def job_of(dataset, out, clock, recipe="short", quick=True, **changes):
    settings = {"peak": 1e12, "out": out, "checkpoints": out / "checkpoints", "quick": quick, "clock": clock}
    return gpu.Job(dataset, practical.RECIPES[recipe], CPU, **settings | changes)


def test_a_quick_run_writes_whole_results_of_both_recipes(tmp_path, jpeg, fashion, monkeypatch, capsys):
    monkeypatch.setattr(gpu.data, "load", lambda name, root: fashion)
    places = ["--out", str(tmp_path / "out"), "--checkpoints", str(tmp_path / "runs")]
    gpu.main(["--quick", "--cifar-jpeg", str(jpeg), *places])
    shown = capsys.readouterr().out
    names = {f"{dataset}_{recipe}.json" for dataset in ("fashion", "cifar10-jpeg") for recipe in ("short", "lecture")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    for name in names:
        content = json.loads((tmp_path / "out" / name).read_text(encoding="utf-8"))
        assert content["quick"] is True
        assert content["versions"]["torch"] == torch.__version__.partition("+")[0] or torch.__version__
        assert content["device"]
        assert content["gflop_per_epoch"] > 0
        assert f"{content['title']}, {content['recipe']['name']} recipe" in shown
        assert [row["arm"] for row in content["rows"]] == list(practical.ARMS)
        for row in content["rows"]:
            assert tuple(row) == ROW
            assert row["seed"] == 0
            assert all(0 <= row[key] <= 1 for key in ("test_accuracy", "ece", "val_accuracy"))
            assert row["utilisation"] == pytest.approx(row["tflops"] / row["matmul_tflops"])
            assert row["tflops"] == pytest.approx(content["gflop_per_epoch"] / 1000 / row["seconds_per_epoch"])
    jpeg_copy = json.loads((tmp_path / "out" / "cifar10-jpeg_lecture.json").read_text(encoding="utf-8"))
    assert jpeg_copy["title"] == "CIFAR-10 (JPEG copy)"
    assert jpeg_copy["recipe"]["milestones"] == [50, 100]


def test_without_out_a_quick_run_writes_nothing(tmp_path, fashion, monkeypatch):
    monkeypatch.setattr(gpu.data, "load", lambda name, root: fashion)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    gpu.main(["--quick", "--datasets", "fashion", "--recipes", "short", "--checkpoints", str(tmp_path / "runs")])
    assert list(tmp_path.iterdir()) == []


def test_the_jpeg_copy_keeps_images_labels_and_the_rule_of_splits(jpeg):
    (x, y), test = splits_of((3, 32, 32), (501, 13))
    copy = gpu.cifar_from_jpeg(jpeg)
    assert torch.equal(copy.test.y, test.y)
    as_tensors = data.carve("same", data.Split(x, y), test, classes=copy.classes, per_class=500)
    for part in ("train", "val"):
        assert torch.equal(getattr(copy, part).y, getattr(as_tensors, part).y)
    # Random pixels suffer from JPEG more than any photograph, and still each image is nearest to its own original.
    far = torch.cdist(copy.test.x.flatten(1).float(), test.x.flatten(1).float())
    assert torch.equal(far.argmin(1), torch.arange(len(test.y)))


def test_a_file_that_is_no_jpeg_copy_is_named(tmp_path, jpeg):
    with pytest.raises(data.DataError, match=r"none\.npz is not CIFAR-10 as JPEG"):
        gpu.cifar_from_jpeg(tmp_path / "none.npz")
    with np.load(jpeg) as arrays:
        parts = dict(arrays)
    np.savez(tmp_path / "lacking.npz", **{name: part for name, part in parts.items() if name != "test_label"})
    with pytest.raises(data.DataError, match="test_label"):
        gpu.cifar_from_jpeg(tmp_path / "lacking.npz")
    np.savez(tmp_path / "short.npz", **parts | {"train_label": parts["train_label"][:-1]})
    with pytest.raises(data.DataError, match="5010 images and 5009 labels"):
        gpu.cifar_from_jpeg(tmp_path / "short.npz")


def test_no_seed_begins_that_would_not_fit(tmp_path, fashion, monkeypatch, capsys):
    clock = Clock(monkeypatch, seconds=60)
    job = job_of(fashion, tmp_path, clock)
    gpu.run([job], minutes=11, clock=clock)  # a seed is four epochs
    assert [(row["seed"], row["arm"]) for row in job.rows] == list(itertools.product((0, 1), practical.ARMS))
    assert clock.now == 8 * 60
    assert "seed 2 needs about 4.0 minutes, and 3.0 are left" in capsys.readouterr().out


def test_a_job_whose_seed_is_too_long_leaves_the_time_to_the_others(tmp_path, fashion, monkeypatch):
    clock = Clock(monkeypatch, seconds=60)
    short, lecture = (job_of(fashion, tmp_path, clock, recipe) for recipe in ("short", "lecture"))
    lecture.epoch_seconds = 3600.0
    gpu.run([lecture, short], minutes=9, clock=clock)
    assert lecture.rows == []
    assert {row["seed"] for row in short.rows} == {0, 1}


def test_a_second_run_goes_on_with_the_next_seed(tmp_path, fashion, monkeypatch):
    clock = Clock(monkeypatch, seconds=60)
    gpu.run([job_of(fashion, tmp_path, clock)], minutes=5, clock=clock)
    before = json.loads((tmp_path / "fashion_short.json").read_text(encoding="utf-8"))["rows"]
    assert clock.epochs == 4
    again = job_of(fashion, tmp_path, clock)
    gpu.run([again], minutes=5, clock=clock)
    assert clock.epochs == 8
    rows = json.loads((tmp_path / "fashion_short.json").read_text(encoding="utf-8"))["rows"]
    assert rows[:4] == before
    assert {row["seed"] for row in rows[4:]} == {1}


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, fashion, request):
    """Two batches an epoch and two epochs an arm: an arm is four steps, a seed sixteen."""
    most, steps = 0, []

    def counted(optimizer, args, options):
        if isinstance(optimizer, torch.optim.SGD):  # the job's; calibration has one of its own
            if len(steps) == most:
                raise KeyboardInterrupt
            steps.append(optimizer)

    def job_that_stops_after(count, out):
        job = job_of(fashion, out, itertools.count().__next__)
        job.recipe = gpu.replace(job.recipe, epochs=2)
        nonlocal most
        most = count
        steps.clear()
        return job

    hook = register_optimizer_step_pre_hook(counted)
    request.addfinalizer(hook.remove)

    whole = job_that_stops_after(16, tmp_path / "whole")
    whole.run(0)
    job = job_that_stops_after(7, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        job.run(0)  # in the second epoch of mixup
    job = job_that_stops_after(9, tmp_path)
    assert job.missing(0) == ["mixup", "smoothing", "both"]
    job.epoch_seconds = 60.0
    assert job.seconds_for(0) == 60 * (1 + 2 + 2)
    with pytest.raises(KeyboardInterrupt):
        job.run(0)  # in the second epoch of both
    job = job_that_stops_after(2, tmp_path)
    job.run(0)
    assert len(steps) == 2
    scores = ("arm", "seed", "test_accuracy", "ece", "val_accuracy")
    assert [[row[key] for key in scores] for row in job.rows] == [[row[key] for key in scores] for row in whole.rows]
    assert job.missing(0) == []


def test_results_of_another_set_up_are_not_mixed_in(tmp_path, fashion, monkeypatch):
    clock = Clock(monkeypatch, seconds=1)
    gpu.run([job_of(fashion, tmp_path, clock)], minutes=1, seeds=1, clock=clock)
    path = tmp_path / "fashion_short.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"device": "another GPU"}), encoding="utf-8")
    with pytest.raises(ValueError, match="another device"):
        job_of(fashion, tmp_path, clock)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not a result of this benchmark"):
        job_of(fashion, tmp_path, clock)


@pytest.mark.parametrize("name", ["lecture", "short"])
def test_the_recipes_change_the_learning_rate_as_they_say(name):
    recipe, model = practical.RECIPES[name], torch.nn.Linear(1, 1)
    loader = [(torch.zeros(1, 1), torch.zeros(1, 1))] * 10
    options = {"loss": torch.nn.functional.mse_loss, "epochs": recipe.epochs, "progress": False}
    history = train.fit(model, loader, **recipe.fit_options(model, steps=len(loader)), **options)
    rates = [row["lr"] for row in history.rows]
    if name == "lecture":
        assert rates == pytest.approx([0.1] * 50 + [0.01] * 50 + [0.001] * 50)
    else:
        rise, fall = rates[:5], rates[4:]
        assert max(rates) == pytest.approx(0.4, rel=0.03)
        assert rise == sorted(rise)
        assert fall == sorted(fall, reverse=True)
        assert rates[-1] == pytest.approx(0.4 / 16, rel=0.1)  # sixteen epochs of falling, one of them to go


def test_make_gpu_first_looks_for_a_gpu_and_ends_without_one(monkeypatch):
    recipe = re.search(r"^gpu:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert recipe.splitlines()[0].split()[1:] == ["benchmarks/gpu.py", "--check"]
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)
    for arguments in (["--check"], []):
        with pytest.raises(SystemExit, match="torch sees no GPU here"):
            gpu.main(arguments)


@pytest.mark.parametrize(("value", "code"), [(0.1, 0), (0.07, 1)])
def test_claims_on_a_gpu_are_made_one_lesson_after_the_other_and_judged(tmp_path, monkeypatch, capsys, value, code):
    commands = []
    claim = record.Claim("gain", "gain", {0: value}, each_at_least=0.08)  # a single run is not firm, and is not asked to be

    def ran(command, env, **options):
        commands.append(command)
        record.write(Path(env["COURSE_RESULTS"]) / "gpu" / "01.json", {"lesson": "01"}, [claim])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(claims.course, "ROOT", tmp_path)
    monkeypatch.setattr(claims.course, "lessons", lambda: [tmp_path / "01_fitting.ipynb"])
    monkeypatch.setattr(claims, "stated", lambda path: [claim])
    monkeypatch.setattr(claims.subprocess, "run", ran)
    monkeypatch.setattr(sys, "argv", ["claims.py", "--profile", "gpu"])
    with pytest.raises(SystemExit) as ended:
        claims.main()
    assert ended.value.code == code
    said = f"lesson 01, gain: [{value}], asked: at least 0.08 in each run: DOES NOT HOLD"
    assert (said in capsys.readouterr().out) == bool(code)
    (command,) = commands
    assert command[command.index("--profile") + 1] == "gpu"
    assert command[command.index("--jobs") + 1] == "1"


def test_readme_says_whether_anything_was_measured_on_a_gpu():
    measured = any((ROOT / "results" / "gpu").glob("*.json"))
    assert (
        "No number in this repository was measured on a GPU" in (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    ) != measured
