import json
import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"


def test_a_quick_run_writes_whole_rows(tmp_path):
    out = tmp_path / "deep" / "bench.json"
    command = [sys.executable, BENCH, "--quick", "--out", out]
    one_thread = dict(os.environ, OMP_NUM_THREADS="1")  # torch's threads and the other test processes would wait for each other
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=one_thread)
    content = json.loads(out.read_text(encoding="utf-8"))
    assert list(out.parent.iterdir()) == [out]
    assert set(content) == {"processor", "threads", "versions", "quick", "rows"}
    assert content["quick"] is True
    names = [row["name"] for row in content["rows"]]
    assert [name.split(" / ")[0] for name in names] == [
        "TensorLoader",
        "TensorLoader",
        "TensorLoader",
        "textbook training",
        "textbook evaluation",
        "fit",
        "evaluate",
        "textbook training",
        "fit",
        "fit",
        "mixup of a batch",
        "CutMix of a batch",
        "label smoothing of a batch",
        "DisturbLabel of a batch",
        "10 MLPs one by one",
        "10 CNNs one by one",
        "published pseudo-labelling epoch",
        "import with course_utils",
        "detection.box_iou",
        "pycocotools",
        "pycocotools",
        "jupyter nbconvert, lesson by lesson",
    ]
    for row in content["rows"]:
        assert set(row) == {"name", "ratio", "low", "high", "goal", "met", "note"}
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        direction, value = row["goal"].rsplit(" ", 1)
        assert row["met"] == (row["ratio"] >= float(value) if direction == "at least" else row["ratio"] <= float(value))
        assert row["note"]
        assert row["name"] in done.stdout


def test_some_rows_are_measured_again_and_the_others_kept(tmp_path):
    out = tmp_path / "bench.json"
    command = [sys.executable, BENCH, "--quick", "--out", out, "--only"]
    one_thread = dict(os.environ, OMP_NUM_THREADS="1")

    def run(*names):
        done = subprocess.run([*command, *names], check=False, capture_output=True, text=True, env=one_thread)
        return done, json.loads(out.read_text(encoding="utf-8"))

    _, first = run("bound", "iou")
    first["rows"].insert(1, first["rows"][0] | {"name": "another"})
    out.write_text(json.dumps(first))
    _, second = run("iou")
    assert second["rows"][:2] == first["rows"][:2]
    assert [row["name"] for row in second["rows"]] == [row["name"] for row in first["rows"]]
    assert second["rows"][2] != first["rows"][2]
    out.write_text(json.dumps(first | {"threads": 99}))
    done, third = run("iou")
    assert done.returncode == 2
    assert "measured elsewhere" in done.stderr
    assert third["threads"] == 99
