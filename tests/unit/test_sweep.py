"""The sweep over torch's layers finds what is wrong, and goes on after it."""

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parent.parent.parent / "tools" / "sweep_layers.py"
SCRIPT = """
import os, signal, sys
import sweep_layers

good = sweep_layers.fault
def spoiled(case):
    if case.channels == 4:
        os.kill(os.getpid(), signal.SIGSEGV)
    if case.channels == 5:
        raise RuntimeError("not implemented")
    return "output is off by 9 of its size" if case.channels == 6 else good(case)

sweep_layers.fault = spoiled
sys.argv = ["sweep_layers.py", "--jobs", "1", "--only", "max pool           kernel 3  stride 2  contiguous    float32"]
sweep_layers.main()
"""


def run(*command):
    environment = os.environ | {"MALLOC_CHECK_": "0"}  # or the tool starts itself again
    command = [sys.executable, *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=TOOL.parent, env=environment)


def test_layers_in_the_usual_layout_and_float32_are_right():
    done = run(str(TOOL), "--jobs", "1", "--only", "kernel 3  stride 2  contiguous    float32  channels 3 ")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 cases are wrong.\n")


def test_a_case_that_dies_fails_or_is_wrong_is_told_and_the_others_go_on():
    done = run("-c", SCRIPT)
    assert done.returncode == 1, done.stderr
    assert "3 of 11 cases, channels [4, 5, 6]" in done.stdout
    assert "dies of SIGSEGV" in done.stdout
    assert done.stdout.endswith("3 cases are wrong.\n")
