import copy
import os
import subprocess
import sys

import pytest
import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from course_utils import precision
from course_utils.data import TensorLoader
from course_utils.models import MLP, ResNet18, SmallCNN
from course_utils.train import evaluate, fit, predict

CPU = torch.device("cpu")
LAST, USUAL = torch.channels_last, torch.contiguous_format
on_x86 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="layouts were measured on AVX2 and AVX-512"
)


def images(n=12, channels=3, side=8, classes=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, side, side, generator=generator), torch.arange(n) % classes


def trained(model, x, y, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return fit(model, TensorLoader(x, y, 4), optimizer=optimizer, epochs=2, progress=False, amp="off", **options)


# Which layout


@on_x86
@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (SmallCNN(1, 10, width=16), LAST),
        (SmallCNN(3, 10, width=8, image_size=32), USUAL),
        (ResNet18(3, 10, width=16), LAST),
        (ResNet18(3, 10, width=4), USUAL),
        (MLP(4, 3, hidden=(8,)), USUAL),
        (nn.Conv2d(3, 64, 3), USUAL),  # it reads images, and nothing after it gains
        (nn.Sequential(nn.Conv2d(3, 32, 1, stride=2), nn.Conv2d(32, 32, 3)), USUAL),  # not safe on AVX2
        (nn.Sequential(nn.Conv2d(3, 32, (1, 3)), nn.Conv2d(32, 32, 3)), USUAL),
        (nn.Sequential(nn.Conv2d(3, 32, 4, stride=4), nn.Conv2d(32, 64, 1, stride=2)), LAST),
        (nn.Sequential(nn.Conv2d(6, 32, 3), nn.Conv2d(32, 64, 3)), USUAL),
        (nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=32), nn.ConvTranspose2d(32, 8, 2)), LAST),
        (nn.Sequential(nn.LazyConv2d(8, 3), nn.Conv2d(32, 32, 3)), USUAL),
    ],
)
def test_channels_last_is_chosen_where_it_is_safe_and_gains(model, layout):
    assert precision.layout(model, CPU) is layout


@pytest.mark.parametrize("capability", ["DEFAULT", "NO AVX", "SVE256", "VSX"])
def test_on_processors_that_were_not_measured_the_usual_layout_stays(monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert precision.layout(ResNet18(width=64), CPU) is USUAL
    assert precision.layout(ResNet18(width=64), torch.device("mps")) is USUAL


def test_tensor_cores_get_channels_last_whatever_the_width():
    cuda = torch.device("cuda")  # asked about, not used
    assert precision.layout(ResNet18(width=4), cuda) is LAST
    assert precision.layout(MLP(4, 3, hidden=(8,)), cuda) is USUAL


@pytest.mark.parametrize("network", [lambda: ResNet18(3, 3, width=4), lambda: ResNet18(3, 3, width=16)])
def test_images_that_come_channels_last_are_laid_out_as_the_network_wants_them(network):
    """As images of NumPy do, turned from (B, H, W, C)."""
    x, y = images()
    found = []
    for turned in (x, x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)):
        torch.manual_seed(0)
        model = network().to(memory_format=LAST if turned is not x else USUAL)
        trained(model, turned, y)
        found.append(model.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(*(state.values() for state in found), strict=True))


# A network's own code


class Viewing(nn.Module):
    """Flattens by `view`, as many do, and torch refuses for channels-last images."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(16, 32, 3))
        self.head = nn.Linear(32 * 4 * 4, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.body(x)
        return self.head(x.view(x.size(0), -1))


class Reshaping(Viewing):
    def forward(self, x):
        self.calls += 1
        return self.head(self.body(x).flatten(1))


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_network_that_flattens_by_view_is_trained_and_evaluated(by_hand):
    x, y = images()
    torch.manual_seed(0)
    viewing = Viewing()
    if by_hand:
        viewing.to(memory_format=LAST)
    trained(viewing, x, y, val_loader=TensorLoader(x, y, 5))
    torch.manual_seed(0)
    reshaping = Reshaping()
    optimizer = torch.optim.SGD(reshaping.parameters(), lr=0.05, fused=True)
    for _ in range(2):
        for batch, labels in TensorLoader(x, y, 4):
            optimizer.zero_grad()
            F.cross_entropy(reshaping.train()(batch), labels).backward()
            optimizer.step()
    for one, two in zip(viewing.state_dict().values(), reshaping.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two)
    predicted = predict(viewing, TensorLoader(x, y, 5), amp="off").logits
    torch.testing.assert_close(predicted, viewing(x).detach())  # after `fit` it can be called as any other


def with_hook(model):
    model[0].register_forward_hook(lambda module, inputs, output: output * 1)
    return model


def with_own_forward(model):
    model.forward = lambda x: nn.Sequential.forward(model, x).view(len(x), -1)
    return model


class Grouping(nn.Module):
    """A view that only batches of more than one refuse."""

    def forward(self, x):
        return x.view(len(x) * x.shape[1], -1).view(x.shape)


class OnlyInTraining(nn.Module):
    def forward(self, x):
        return x.view(len(x), -1).view(x.shape) if self.training else x


class Standardised(nn.Module):
    """A convolution that is not a layer: its weights are made anew for each call."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.weights, self.stride = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) * 0.1), stride

    def forward(self, x):
        return F.conv2d(x, self.weights - self.weights.mean((1, 2, 3), keepdim=True), stride=self.stride)


def wide(*more):
    body = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), *more]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3))


OWN_CODE = {
    "view": Viewing,
    "view of channels": lambda: wide(Grouping()),
    "view in training": lambda: wide(OnlyInTraining()),
    "a hook": lambda: with_hook(wide()),
    "a forward of its own": lambda: with_own_forward(wide()),
    "a convolution without a layer": lambda: wide(Standardised(16, 4, 1), nn.ReLU(), Standardised(4, 16, 1, 2)),
    "traced": lambda: torch.fx.symbolic_trace(wide()),
    "weights cut to a few": lambda: wide(cut(nn.Conv2d(16, 4, 1)), nn.Conv2d(4, 16, 1, stride=2)),
}


def cut(convolution):
    convolution.weight = nn.Parameter(convolution.weight.detach().clone())
    return convolution


@pytest.mark.parametrize("kind", OWN_CODE)
def test_networks_with_code_of_their_own_keep_the_usual_layout_and_are_trained(kind):
    x, y = images()
    torch.manual_seed(0)
    model = OWN_CODE[kind]()
    assert precision.layout(model, CPU) is USUAL
    if kind not in ("traced", "weights cut to a few"):
        assert precision.layout(model, torch.device("cuda")) is USUAL
    trained(model, x, y, val_loader=TensorLoader(x, y, 5))
    assert evaluate(model, TensorLoader(x, y, 5), amp="off").loss > 0


@on_x86
def test_networks_of_known_layers_are_not_called_to_find_out():
    model = wide()
    assert precision.layout(model, CPU) is LAST
    assert precision.layout(nn.Sequential(model, nn.Identity()), CPU) is LAST


def test_volumes_and_layers_that_are_made_later_are_trained():
    x, y = torch.randn(12, 3, 4, 8, 8), torch.arange(12) % 3
    mixed = nn.Sequential(
        nn.Conv3d(3, 16, 3, padding=1), nn.Flatten(1, 2), nn.Conv2d(64, 16, 3), nn.Flatten(), nn.LazyLinear(3)
    )
    mixed(x[:2])
    trained(mixed, x, y)
    assert precision.layout(mixed, torch.device("cuda")) is USUAL
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    trained(lazy, x, y)
    assert evaluate(lazy, TensorLoader(x, y, 5), amp="off").loss > 0


def test_weights_that_are_slices_are_trained_as_by_a_plain_loop():
    """Torch's fused steps walk through memory as it lies."""
    x, y = torch.randn(24, 4), torch.arange(24) % 3

    def network():
        torch.manual_seed(0)
        first = nn.Linear(8, 16)
        first.weight = nn.Parameter(first.weight.detach()[:, :4])
        first.bias = nn.Parameter(torch.zeros(32)[::2])
        return nn.Sequential(first, nn.ReLU(), nn.Linear(16, 3))

    for kind in (torch.optim.SGD, torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)):
        ours, plain = network(), network()
        fit(ours, TensorLoader(x, y, 8), optimizer=kind(ours.parameters(), lr=0.1), epochs=2, progress=False, amp="off")
        optimizer = kind(plain.parameters(), lr=0.1)
        for _ in range(2):
            for batch, labels in TensorLoader(x, y, 8):
                optimizer.zero_grad()
                F.cross_entropy(plain(batch), labels).backward()
                optimizer.step()
        for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, two)


def test_sparse_gradients_of_a_function_are_trained():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Parameter(torch.randn(9, 4)), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(F.embedding(x, self.table, sparse=True).mean(1))

    model = Words()
    before = model.table.detach().clone()
    words = torch.randint(9, (24, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, TensorLoader(words, torch.arange(24) % 3, 8), optimizer=optimizer, epochs=1, progress=False)
    assert not torch.equal(model.table, before)


# Averages of the optimizer


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
@pytest.mark.parametrize("other", [LAST, USUAL])
def test_a_run_goes_on_in_another_layout_as_in_its_own(kind, other, tmp_path, monkeypatch):
    """A checkpoint comes from a processor on which another layout was chosen."""
    x, y = images()

    def run(epochs, layout, path=None):
        monkeypatch.setattr(precision, "layout", lambda model, device: layout)
        torch.manual_seed(0)
        model = SmallCNN(3, 3, image_size=8, width=16)
        options = {"progress": False, "amp": "off", "checkpoint": path}
        fit(model, TensorLoader(x, y, 4), optimizer=kind(model.parameters(), lr=0.01), epochs=epochs, **options)
        return model.state_dict()

    own = USUAL if other is LAST else LAST
    whole = run(3, own)
    run(1, other, tmp_path / "run.pt")
    resumed = run(3, own, tmp_path / "run.pt")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-5)


# 16 bits


@pytest.mark.parametrize(
    ("held", "units"),
    [
        (None, True),
        ("ALL", True),
        ("AVX2", False),
        ("avx512_core", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_CORE_AMX", True),
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_auto_does_not_choose_bf16_where_onednn_is_held_to_fewer_instructions(monkeypatch, name, held, units):
    """It would emulate it: on a processor with AMX held to AVX2, ResNet-18 was 3 to 15 times slower than in float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True}, raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if held is not None:
        monkeypatch.setenv(name, held)
    assert precision.choose(CPU, "auto") == (torch.bfloat16 if units else None)


@pytest.mark.parametrize(
    ("layer", "right"),
    [
        (nn.Conv2d(16, 16, 4, stride=4), False),
        (nn.Conv2d(3, 32, 8, stride=8), False),
        (nn.Conv1d(16, 16, 4, stride=(4,)), False),
        (nn.Conv2d(16, 16, (1, 4), stride=(1, 4)), False),
        (nn.Conv2d(16, 32, 1, stride=2), True),
        (nn.Conv2d(16, 32, 7, stride=4), True),
        (nn.Conv2d(16, 32, 2, stride=2), True),
        (nn.ConvTranspose2d(8, 8, 3, stride=4), False),
        (nn.ConvTranspose2d(8, 8, 1, stride=2), False),
        (nn.ConvTranspose2d(8, 8, 4, stride=2), True),
        (nn.ConvTranspose2d(8, 8, 2, stride=2), True),
        (nn.Linear(4, 4), True),
    ],
)
def test_auto_leaves_out_bf16_for_layers_that_are_computed_wrongly_in_it(layer, right, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    model = nn.Sequential(nn.Identity(), nn.Sequential(layer))
    assert precision.choose(CPU, "auto", model) == (torch.bfloat16 if right else None)
    assert precision.choose(CPU, "bf16", model) is torch.bfloat16  # whoever asks for it gets it
    assert precision.choose(torch.device("cuda"), "off", model) is None


@pytest.mark.parametrize("layer", [nn.Conv2d(16, 16, 4, stride=4), nn.ConvTranspose2d(16, 8, 3, stride=4)])
def test_logits_of_such_layers_are_right_on_this_processor(layer):
    """On a CPU with AMX the first was off by four times the size of its output, the second by all of it in the gaps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), layer, nn.Flatten())
    x = torch.randn(4, 3, 16, 16)
    exact = copy.deepcopy(model).double()(x.double()).detach()
    found = predict(model, TensorLoader(x, torch.zeros(4).long(), 2)).logits
    assert (found - exact).abs().max() < 0.05 * exact.abs().max()


# Without AVX-512, torch 2.15.0 corrupted memory for some of these networks when they got channels-last images.

NARROW = """
import sys
import torch
from torch import nn
from course_utils.data import TensorLoader
from course_utils.models import ResNet18
from course_utils.train import evaluate, fit

def block(channels, kernel, stride, groups):
    return nn.Conv2d(channels, 8 * groups, kernel, stride, padding=kernel // 2, groups=groups)

nets = [("ResNet18 of width %d" % width, ResNet18(3, 3, width=width)) for width in (1, 2, 3, 4, 5, 6, 7)]
for channels in range(1, 10):
    for kernel, stride, groups in ((1, 2, 1), (1, 3, 1), (1, 2, channels), (3, 2, 1), (3, 1, channels)):
        name = f"{channels} channels, kernel {kernel}, stride {stride}, groups {groups}"
        first = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), block(channels, kernel, stride, groups))
        nets.append((name, nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))))
x, y = torch.randn(16, 3, 8, 8), torch.arange(16) % 3
for layout in (torch.contiguous_format, torch.channels_last):
    loader = TensorLoader(x.contiguous(memory_format=layout), y, 8)
    for name, model in nets:
        print(name, flush=True)
        model.eval()(x[:2])
        model.to(memory_format=layout)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        fit(model, loader, optimizer=optimizer, epochs=2, val_loader=loader, amp=sys.argv[1], progress=False)
        evaluate(model, loader, amp=sys.argv[1])
print("all trained")
"""


@pytest.mark.parametrize("held", [{}, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}], ids=["as it is", "AVX2"])
def test_narrow_networks_train_without_corrupting_memory(held):
    """In a child process, where the C library checks memory whenever it frees some."""
    checks = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NARROW, "off"], env=os.environ | checks | held, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"died at {done.stdout.splitlines()[-1:]}: {done.stderr[-500:]}"
    assert done.stdout.endswith("all trained\n")


def test_evaluation_of_images_as_they_come_equals_the_model_itself():
    x, y = images()
    model = ResNet18(3, 3, width=16).eval()
    turned = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for given in (x, turned):
        found = evaluate(model, TensorLoader(given, y, 5), amp="off")
        assert found.loss == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-4)
