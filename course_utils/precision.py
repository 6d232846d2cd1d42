"""How `train` computes: memory layout of images, 16-bit arithmetic, the fused step of the optimizer."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Amp = Literal["auto", "off", "bf16", "fp16"]

_NARROW = 16  # input channels; below, channels-last is slower on a CPU, and below 8 not always safe
_IMAGE = 4  # channels of an image, which the first convolution reads


# --- layout ------------------------------------------------------------------------------------------------------------------


def layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """The order in memory in which a network gets its images: channels-last where that is safe and gains, else the usual one.

    On NVIDIA's GPUs any 2d convolution gains: their tensor cores want it. On a CPU it depends:

    - *Not safe* on processors without AVX-512: with torch 2.15.0 (oneDNN 3.13.3) the backward pass of a channels-last 1x1
      convolution with a stride and fewer than 8 input channels writes where it must not, and ends the process sooner or later
      (docs/layouts.md; `tools/sweep_layers.py` looks for more).
    - *No gain* where convolutions are narrow: ResNet-18 of width 8 trains at 0.8 times the speed, of width 16 or more at 1.15
      to 1.3 times, on AVX2 and on AVX-512 alike.

    So on x86 processors convolutions of fewer than 16 input channels must be those that read images, and larger than 1x1.
    Elsewhere (Arm, MPS) nothing was measured, and the usual order stays.
    """
    convolutions = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    if device.type == "cuda":
        return torch.channels_last if convolutions else torch.contiguous_format
    measured = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    narrow = [module for module in convolutions if module.in_channels < _NARROW]
    harmless = all(0 < module.in_channels <= _IMAGE and min(module.kernel_size) > 1 for module in narrow)
    if measured and harmless and len(narrow) < len(convolutions):
        return torch.channels_last
    return torch.contiguous_format


def layout_for(model: nn.Module, x: Tensor) -> torch.memory_format:
    """The `layout` for a batch, or the usual one where a network's own code cannot take images channels-last.

    After a convolution ``x.view(len(x), -1)`` is such code: torch refuses it. To find that out, a network with code of its own
    is called once, with one sample, in evaluation mode.
    """
    chosen = layout(model, x.device) if x.ndim == 4 else torch.contiguous_format
    if chosen is torch.channels_last and not _can_be_called(model, laid_out(x[:1], chosen)):
        return torch.contiguous_format
    return chosen


def lay_out(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Give a network's weights the layout for batches like ``x``, and return it."""
    if x.ndim == 4:
        model.to(memory_format=layout(model, x.device))  # weights decide, too, what the network's code will see
    chosen = layout_for(model, x)
    model.to(memory_format=chosen)
    return chosen


def _can_be_called(model: nn.Module, x: Tensor) -> bool:
    if all(type(module).forward.__module__.startswith("torch.nn.") for module in model.modules()):
        return True  # torch's own layers can
    with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng([x.device] if x.is_cuda else []):
        try:
            model(x)
        except Exception:  # whatever it is: if the usual layout does not cure it, training will show it
            return False
    return True


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """A batch in a layout, which only images ``(B, C, H, W)`` have."""
    return x.contiguous(memory_format=layout if x.ndim == 4 else torch.contiguous_format)


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay out an optimizer's averages as their parameters are: torch's fused steps walk through both side by side.

    A checkpoint may come from a machine where another layout was chosen; without this, its momentum would go to other weights.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block. Modes are put back one by one: a part that was frozen in evaluation mode stays so."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


# --- numbers -----------------------------------------------------------------------------------------------------------------


def choose(device: torch.device, amp: Amp, model: nn.Module | None = None) -> torch.dtype | None:
    """The 16-bit type in which layers are computed on a device, or ``None`` for the model's own precision.

    Args:
        device: where the model is.
        amp: as in `train.fit`.
        model: with it, ``"auto"`` leaves out what is computed wrongly in 16 bits: with torch 2.15.0 on CPUs with AMX,
            convolutions of patches (a stride of 3 or more, and a kernel that is not larger), and transposed convolutions
            whose kernel is smaller than their stride (docs/layouts.md).

    Raises:
        ValueError: ``amp`` is another word.
    """
    choices = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if amp in choices:
        return choices[amp]
    if amp != "auto":
        raise ValueError(f"amp is {amp!r}; it must be 'auto', 'off', 'bf16' or 'fp16'.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    right = device.type == "cpu" and _cpu_has_bf16_units() and not any(map(_wrong_in_bf16, model.modules() if model else ()))
    return torch.bfloat16 if right else None


def _wrong_in_bf16(module: nn.Module) -> bool:
    transposed = isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    if not transposed and not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return False
    pairs = list(zip(module.kernel_size, module.stride, strict=True))
    gaps = transposed and any(kernel < stride for kernel, stride in pairs)
    return gaps or any(stride > 2 and kernel <= stride for kernel, stride in pairs)


def _cpu_has_bf16_units() -> bool:
    """Whether oneDNN computes bf16 in hardware: it may be held to fewer instructions than the processor has."""
    held = next((os.environ[name] for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ), "ALL")
    if not re.search("ALL|DEFAULT|BF16|FP16|AMX|AVX10", held.upper()):
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.10 does not tell: then fp32, which is safe
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """Context in which layers compute in a 16-bit type; with ``None`` it changes nothing."""
    return torch.autocast(device.type, dtype=precision or torch.bfloat16, enabled=precision is not None)


def own_type(model: nn.Module) -> torch.dtype | None:
    """Floating point type of a model's parameters; ``None`` where there are none, or several types."""
    found = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return found.pop() if len(found) == 1 else None


# --- the optimizer's step ----------------------------------------------------------------------------------------------------


def use_fused_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let torch update all parameters in one kernel, where it can and the caller left the choice open (``fused=None``)."""
    if any(getattr(module, "sparse", False) for module in model.modules()):
        return  # embeddings with sparse gradients, which the fused kernels refuse
    for group in optimizer.param_groups:
        open_choice = "fused" in group and group["fused"] is None and group.get("foreach") is None
        plain = not group.get("capturable") and not group.get("differentiable")
        fits = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in group["params"])
        if open_choice and plain and fits and not optimizer.state:
            group["fused"] = True
