"""Two processes on this machine against one: curves, weights, what is written, and what happens when one is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import course_utils
from course_utils import parallel, runtime

WORKER = Path(__file__).with_name("torchrun_worker.py")
pytestmark = pytest.mark.xdist_group("torchrun")  # its launches one after the other, by one of pytest's workers

sys.path.insert(0, str(WORKER.parent))
import torchrun_worker  # noqa: E402


def torchrun(mode, folder, *options):
    """Run the worker in two processes, by themselves on this machine, and return torchrun's result."""
    place = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *place, *options, str(WORKER), mode, str(folder)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(Path(course_utils.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=90)
    finally:
        process.terminate()  # torchrun ends its workers
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def of_both_ranks(mode, folder):
    return [torch.load(folder / f"{mode}-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = torchrun("cases", folder)
    assert done.returncode == 0, done.stderr
    assert "NOT been destroyed" not in done.stderr
    return [*of_both_ranks("cases", folder), folder]


@pytest.fixture
def alone(tmp_path):
    """The same case in this one process."""
    return lambda case: getattr(torchrun_worker, case)(tmp_path)


def assert_close(one, two, rtol=2e-4):
    assert len(one["rows"]) == len(two["rows"])
    for row, other in zip(one["rows"], two["rows"], strict=True):
        assert set(row) == set(other)
        np.testing.assert_allclose([row[name] for name in other], list(other.values()), rtol=rtol)
    assert one["best"] == two["best"]
    assert set(one["weights"]) == set(two["weights"])
    for name, weight in one["weights"].items():
        torch.testing.assert_close(weight, two["weights"][name], rtol=1e-3, atol=2e-5, msg=name)


def assert_equal(one, two):
    np.testing.assert_equal(one["rows"], two["rows"])
    assert one["best"] == two["best"]
    for name, weight in one["weights"].items():
        assert torch.equal(weight, two["weights"][name]), name


@pytest.mark.parametrize("name", torchrun_worker.RUNS)
def test_two_processes_have_the_curve_of_one(ranks, name):
    first, second, _ = ranks
    one = torchrun_worker.same_curve(name)
    assert_close(first[name], one)
    assert_equal(first[name], second[name])
    assert first[name]["seconds"] == second[name]["seconds"]
    for found in (first, second):  # random numbers go on as in one process, so the lesson after it is the same too
        assert torch.equal(found[name]["next"], one["next"])


def test_the_parameter_of_a_loss_is_trained_as_in_one_process(ranks, alone):
    one = alone("parameter_of_the_loss")
    assert abs(one["inverse"].item() - 1) > 0.01
    for found in ranks[:2]:
        assert_close(found["parameter_of_the_loss"], one)
        torch.testing.assert_close(found["parameter_of_the_loss"]["inverse"], one["inverse"])


def test_every_sample_is_computed_once_an_epoch(ranks, alone):
    one = alone("samples_seen")
    shares = [found["samples_seen"] for found in ranks[:2]]
    for epoch in (0, 1):
        both = torch.cat([share[epoch] for share in shares]) * 100
        assert both.round().sort().values.tolist() == list(range(51))
        assert {len(share[epoch]) for share in shares} == {24 + 1, 24 + 2}
        assert set(both.round().tolist()[:25]) < set((one[epoch] * 100).round().tolist())


def test_dropout_differs_between_ranks_and_steps_and_the_order_of_batches_does_not(ranks, alone):
    first, second = (found["dropout"] for found in ranks[:2])
    assert first["orders"].shape == second["orders"].shape == (32, 8)
    assert torch.equal(first["orders"], second["orders"])
    masks = torch.cat([first["masks"], second["masks"]])
    assert len(masks) == 64
    assert len(masks.unique(dim=0)) == 64
    assert torch.equal(first["next"], second["next"])
    assert_equal(first, second)
    assert 0.4 < masks.double().mean() < 0.6


def test_all_ranks_begin_as_rank_0(ranks, alone):
    first, second = (found["differently_seeded"] for found in ranks[:2])
    assert_equal(first, second)
    assert torch.equal(first["next"], second["next"])
    assert_close(first, alone("differently_seeded"))


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_keeps_the_ranks_equal(ranks, amp):
    first, second = (found["mixed_precision"][amp] for found in ranks[:2])
    assert_equal(first, second)
    assert first["rows"][-1]["train_loss"] < first["rows"][0]["train_loss"]


def test_the_model_that_comes_back_is_the_callers(ranks, alone):
    one = alone("after_fit")
    for found in ranks[:2]:
        assert found["after_fit"]["same kind"]
        assert found["after_fit"]["equal"]
        for name in ("logits", "gradient"):
            torch.testing.assert_close(found["after_fit"][name], one[name], rtol=1e-3, atol=1e-4)


def test_rank_0_alone_shows_a_bar(ranks):
    first, second, _ = ranks
    assert "28/28" in first["printed"]
    assert second["printed"] == ""


def test_rank_0_alone_writes_and_the_others_wait_for_it(ranks, alone):
    first, second, folder = ranks
    assert (first["written"]["writes"], second["written"]["writes"]) == (4, 0)
    assert first["written"]["kept"] == second["written"]["kept"] == [2, 4]
    assert_equal(first["written"], second["written"])
    assert_equal(first["written"], first["even"])  # the second half went on from the file
    assert not list(folder.glob(".*"))
    (claims,) = (folder / "ci").iterdir()
    assert json.loads(claims.read_text(encoding="utf-8"))["claims"][0]["values"] == {"0": 0.0}


def test_downloads_are_made_by_one_rank_at_a_time(ranks):
    assert [found["one_at_a_time"] for found in ranks[:2]] == [[False], [True]]


def test_a_killed_worker_ends_in_a_clear_error_and_the_run_goes_on_from_the_checkpoint(ranks, tmp_path):
    start = time.monotonic()
    done = torchrun("killed", tmp_path, "--monitor-interval=3")  # time for the other worker to say what it saw
    assert done.returncode != 0
    assert time.monotonic() - start < 40
    assert "LostWorkerError: rank 0 of 2 lost contact with another worker" in done.stderr
    assert "checkpoint=file" in done.stderr
    assert "SIGKILL" in done.stderr  # torchrun's own report
    assert not list(tmp_path.glob("killed-*.pt"))

    again = torchrun("killed", tmp_path, "--max-restarts=1")  # the same command, and torchrun's restart
    assert again.returncode == 0, again.stderr
    starts = {f"start {start}, rank {rank}, after epoch {2 + start}" for start in (0, 1) for rank in (0, 1)}
    assert set(again.stdout.splitlines()) == starts
    for found in of_both_ranks("killed", tmp_path):
        assert_equal(found, ranks[0]["even"])
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 6
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


# Without torchrun


def test_one_process_is_left_alone():
    model = torch.nn.Linear(2, 2)
    assert (runtime.rank(), runtime.world_size()) == (0, 1)
    assert parallel.shared_out(model) is model
    assert parallel.from_first(model) is model
    with parallel.in_turn():
        pass
    assert not torch.distributed.is_initialized()


def test_errors_of_one_process_keep_their_names():
    with pytest.raises(RuntimeError, match="closed by peer") as caught, parallel.lost_workers_named():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    assert type(caught.value) is RuntimeError


@pytest.fixture
def under_torchrun(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("under_torchrun")
def test_only_errors_of_the_connection_are_renamed():
    with pytest.raises(RuntimeError, match="mat1") as caught, parallel.lost_workers_named():
        raise RuntimeError("mat1 and mat2 shapes")
    assert type(caught.value) is RuntimeError
    with pytest.raises(parallel.LostWorkerError, match="rank 5 of 8"), parallel.lost_workers_named():
        raise torch.distributed.DistBackendError("the connection was reset")


@pytest.mark.usefixtures("under_torchrun")
def test_each_worker_has_a_gpu_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.device() == torch.device("cuda", 1)
    assert chosen == [1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError, match="--nproc-per-node=1"):
        runtime.device()


def test_variables_of_other_programs_do_not_make_a_worker(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    assert (runtime.rank(), runtime.world_size()) == (0, 1)
