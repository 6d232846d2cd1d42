"""Does this build of torch compute small layers rightly on this processor? Run it before moving torch's pin.

Each case trains one layer once: a layout, a precision, a shape. It runs in a copy (fork) of this process, so that a case which
corrupts memory ends its copy and no other. Output and gradients are compared with those of float64 in torch's usual layout.
The result of the last run stands in docs/layouts.md.

Usage: python tools/sweep_layers.py [--jobs N] [--only WORD]
       ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python tools/sweep_layers.py     # as on a processor without AVX-512
"""

import argparse
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process that has started threads must not be copied

import torch
from torch import Tensor, nn
from tqdm import tqdm

from course_utils import files

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Largest error allowed, as a share of the size of what is compared: rounding adds up to far less.
TOLERANCE = {"float32": 1e-4, "bfloat16": 4e-2}


@dataclass(frozen=True)
class Case:
    """One layer in one layout and precision."""

    kind: str
    layout: str
    precision: str
    kernel: int
    stride: int
    channels: int
    batch: int
    out: int = 8
    size: int = 8

    @property
    def family(self) -> str:
        """What the report counts together."""
        return f"{self.kind:<18} kernel {self.kernel}  stride {self.stride}  {self.layout:<13} {self.precision}"

    def __str__(self) -> str:
        return f"{self.family}  channels {self.channels} to {self.out}, batch {self.batch}, image {self.size}"

    def layer(self) -> nn.Module:
        """The layer, with weights that depend on nothing but torch's seed."""
        kernel, stride, padding = self.kernel, self.stride, self.kernel // 2
        match self.kind:
            case "convolution":
                return nn.Conv2d(self.channels, self.out, kernel, stride, padding)
            case "depthwise":
                return nn.Conv2d(self.channels, self.channels, kernel, stride, padding, groups=self.channels)
            case "two groups":
                return nn.Conv2d(2 * self.channels, 2 * self.out, kernel, stride, padding, groups=2)
            case "patches":  # as networks of patches begin
                return nn.Conv2d(self.channels, self.out, stride, stride)
            case "flat":
                return nn.Conv2d(self.channels, self.out, (1, kernel), stride)
            case "dilated":
                return nn.Conv2d(self.channels, self.out, kernel, stride, padding=kernel - 1, dilation=2)
            case "transposed":
                return nn.ConvTranspose2d(self.channels, self.out, kernel, stride, padding)
            case "max pool":
                return nn.MaxPool2d(kernel, stride, padding)
            case "average pool":
                return nn.AvgPool2d(kernel, stride, padding)
            case "batch norm":
                return nn.BatchNorm2d(self.channels)
            case "group norm":
                return nn.GroupNorm(1, self.channels)
            case "adaptive pool":
                return nn.AdaptiveAvgPool2d(kernel)
            case "upsample":
                return nn.Upsample(scale_factor=stride, mode="bilinear")
        raise ValueError(self.kind)

    def inputs(self) -> Tensor:
        channels = 2 * self.channels if self.kind == "two groups" else self.channels
        return torch.randn(self.batch, channels, self.size, self.size)


def cases() -> Iterator[Case]:
    """All cases, in an order in which neighbours are alike."""
    ways = list(itertools.product(LAYOUTS, PRECISIONS))
    for kind in ("convolution", "depthwise"):
        for (layout, precision), kernel, stride in itertools.product(ways, (1, 3, 5), (1, 2)):
            for channels, batch in itertools.product(range(1, 18), (1, 8, 64)):
                yield Case(kind, layout, precision, kernel, stride, channels, batch)
                if kind == "convolution":
                    yield Case(kind, layout, precision, kernel, stride, channels, batch, out=5, size=15)
                    yield Case(kind, layout, precision, kernel, stride, channels, batch, out=17, size=7)
    for kind in ("two groups", "dilated", "transposed", "patches", "flat", "max pool", "average pool"):
        for (layout, precision), kernel, stride in itertools.product(ways, (1, 3), (1, 2, 4)):
            for channels in (*range(1, 10), 16, 17):
                size = 16 if kind == "patches" else 8  # several patches
                yield Case(kind, layout, precision, kernel, stride, channels, 8, size=size)
    for kind in ("batch norm", "group norm", "adaptive pool", "upsample"):
        for (layout, precision), channels, batch in itertools.product(ways, (*range(1, 10), 16, 17), (2, 64)):
            yield Case(kind, layout, precision, 2, 2, channels, batch)


def train_once(case: Case, layer: nn.Module, x: Tensor, plain: bool) -> dict[str, Tensor]:
    """Output and gradients, in float64; ``plain`` computes in the precision of ``x`` itself."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.precision == "bfloat16" and not plain):
        y = layer(x)
    # Uneven, the same in both precisions, and of one sign, or a gradient of a bias would be a small rest of large terms.
    slope = (1 + torch.linspace(-9, 9, y.numel(), dtype=torch.float64).sin() / 2).view(y.shape).to(y.dtype)
    y.backward(slope)
    found = {"output": y.detach(), "gradient of the input": x.grad}
    found |= {f"gradient of the {name}": parameter.grad for name, parameter in layer.named_parameters()}
    return {name: value.double().contiguous() for name, value in found.items()}


def fault(case: Case) -> str:
    """What is wrong with a case, in words; empty when nothing is. Runs it three times: memory is laid out anew each time."""
    torch.manual_seed(0)
    layer, x = case.layer(), case.inputs()
    if case.precision == "bfloat16":  # what rounding does to inputs and weights is no fault
        x = x.bfloat16().float()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(parameter.bfloat16())
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    exact = case.layer().double()
    exact.load_state_dict(state)
    expected = train_once(case, exact, x.double(), plain=True)
    for _ in range(3):
        fast = case.layer()
        fast.load_state_dict(state)
        fast = fast.to(memory_format=LAYOUTS[case.layout])
        found = train_once(case, fast, x.contiguous(memory_format=LAYOUTS[case.layout]), plain=False)
        for name, value in found.items():
            size = expected[name].square().mean().sqrt().clamp(min=1e-3)
            error = ((value - expected[name]).abs().max() / size).item()
            if not error <= TOLERANCE[case.precision] * 5:  # the largest of many errors, against the mean size
                return f"{name} is off by {error:.2g} of its size"
    return ""


def run_in_a_copy(chosen: list[Case]) -> dict[Case, str]:
    """`fault` of cases in one copy of this process after the other; the case in which a copy dies is the last one of it."""
    found: dict[Case, str] = {}
    while rest := chosen[len(found) :]:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with os.fdopen(writing, "w", buffering=1) as pipe:
                for case in rest:
                    try:
                        words = fault(case)
                    except Exception as error:
                        words = f"{type(error).__name__}: {error}"[:300]
                    pipe.write(" ".join(words.split()) + "\n")
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read().splitlines()
        found |= dict(zip(rest, said, strict=False))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0 and len(said) < len(rest):
            found[rest[len(said)]] = f"dies of {signal.Signals(-status).name}"
        elif status != 0:
            raise RuntimeError(f"a copy ended with status {status}")
    return found


def sweep(family: list[Case]) -> dict[Case, str]:
    """Faults of a family. Memory may be corrupted by one case and found so in a later one: then each gets a copy of its own."""
    found = run_in_a_copy(family)
    if any(words.startswith("dies") for words in found.values()):
        found = {case: words for case in family for words in run_in_a_copy([case]).values()}
    return {case: words for case, words in found.items() if words}


def watch_memory() -> None:
    """Start again with the C library's own checks of memory, where it has them: more of what is corrupted is then noticed."""
    library = Path("/lib/x86_64-linux-gnu/libc_malloc_debug.so.0")
    if library.exists() and "MALLOC_CHECK_" not in os.environ:
        variables = os.environ | {"LD_PRELOAD": str(library), "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
        os.execve(sys.executable, [sys.executable, *sys.argv], variables)


def main() -> None:
    files.spell_out()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="families of cases at once")
    parser.add_argument("--only", default="", help="only cases with this word, such as channels-last")
    options = parser.parse_args()
    watch_memory()
    families: dict[str, list[Case]] = {}
    for case in cases():
        if options.only in str(case):
            families.setdefault(case.family, []).append(case)
    held = os.environ.get("ONEDNN_MAX_CPU_ISA", "all that the processor has")
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, oneDNN with {held}: ", end="")
    print(f"{sum(map(len, families.values()))} cases in {len(families)} families", flush=True)
    bad = 0
    # Threads only wait for copies; none has started torch's own threads, which no copy would have.
    with ThreadPoolExecutor(options.jobs) as pool:
        for name, faults in zip(families, tqdm(pool.map(sweep, families.values()), total=len(families)), strict=True):
            if not faults:
                continue
            bad += len(faults)
            channels = sorted({case.channels for case in faults})
            ways = dict(Counter(words.partition(" is off")[0] for words in faults.values()))
            worst, words = next(iter(faults.items()))
            tqdm.write(f"{name}: {len(faults)} of {len(families[name])} cases, channels {channels}: {ways}")
            tqdm.write(f"    such as {worst}: {words}")
    print(f"{bad} cases are wrong.")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
