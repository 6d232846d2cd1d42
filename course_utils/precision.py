"""How `train` computes: memory layout of images, 16-bit arithmetic, the fused step of the optimizer."""

import os
import re
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Amp = Literal["auto", "off", "bf16", "fp16"]


class Arithmetic(NamedTuple):
    """In what a model computes: where, in which type of its own, in 16 bits or not, and in which layout it gets images."""

    device: torch.device
    own_type: torch.dtype | None
    autocast: torch.autocast
    layout: torch.memory_format


def arithmetic(model: nn.Module, amp: Amp) -> Arithmetic:
    """What `train.fit`, `train.evaluate` and `train.predict` choose for a model, by its parameters and its code.

    Raises:
        ValueError: ``amp`` is not one of its words.
    """
    device, kinds = device_of(model), {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    own_type = kinds.pop() if len(kinds) == 1 else None
    return Arithmetic(device, own_type, autocast(device, choose(device, amp, model)), layout(model, device))


def device_of(model: nn.Module) -> torch.device:
    """Where a model is."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))


_NARROW = 16  # input channels; below, channels-last is slower on a CPU, and below 8 not always safe
_IMAGE = 4  # channels of an image, which the first convolution reads


# --- layout ------------------------------------------------------------------------------------------------------------------


def layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """The order in memory in which a network gets its images: channels-last where that is safe and gains, else the usual one.

    On NVIDIA's GPUs any 2d convolution gains: their tensor cores want it. On a CPU it depends:

    - *Not safe* on processors without AVX-512: with torch 2.15.0 (oneDNN 3.13.3) the backward pass of a channels-last 1x1
      convolution with a stride and fewer than 8 input channels writes where it must not, and ends the process sooner or later
      (docs/layouts.md; `tools/sweep_layers.py` looks for more).
    - *No gain* where convolutions are narrow: ResNet-18 of width 8 trains at 0.65 to 0.87 times the speed, of width 12 to 24 at
      1.04 to 1.3 times.

    So on x86 processors convolutions of fewer than 16 input channels must be those that read images, and larger than 1x1.
    Elsewhere (Arm, MPS) nothing was measured, and the usual order stays.

    It stays, too, for networks with code of their own, or with hooks: such code may convolve without a layer that could be
    looked at here, and may reshape images by ``x.view(len(x), -1)``, which torch refuses for channels-last ones.
    """
    convolutions = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
    if not convolutions or not all(map(_is_known, model.modules())) or any(map(is_lazy, model.parameters())):
        return torch.contiguous_format
    if device.type == "cuda":
        return torch.channels_last
    measured = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    narrow = [module for module in convolutions if _input_channels(module) < _NARROW]
    harmless = all(_input_channels(module) <= _IMAGE and min(module.kernel_size) > 1 for module in narrow)
    return torch.channels_last if measured and harmless and len(narrow) < len(convolutions) else torch.contiguous_format


_KNOWN_CODE = ("torch.nn.", "torchvision.models.", "torchvision.ops.", "course_utils.models", "course_utils.parallel")


def _is_known(module: nn.Module) -> bool:
    """Whether a module runs code that takes images in any layout, and no convolution of images but as a layer."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    code = getattr(type(module).forward, "__module__", None) or ""
    volumes = isinstance(module, (nn.Conv3d, nn.ConvTranspose3d))  # their weights have a layout of its own name
    return not hooks and "forward" not in vars(module) and not volumes and code.startswith(_KNOWN_CODE)


def _input_channels(module: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Asked of the weights, which may have been replaced by fewer."""
    transposed = isinstance(module, nn.ConvTranspose2d)
    return module.weight.shape[0] if transposed else module.weight.shape[1] * module.groups


def lay_out(model: nn.Module, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Give a network's weights a layout, and the optimizer's averages the same: fused steps walk through both side by side.

    A checkpoint may come from a machine where another layout was chosen; without this, its momentum would go to other weights.
    """
    if not any(map(is_lazy, model.parameters())):
        model.to(memory_format=layout)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and _steps(value) != _steps(parameter):
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """A batch in a layout, which only images ``(B, C, H, W)`` have."""
    return x.contiguous(memory_format=layout if x.ndim == 4 else torch.contiguous_format)


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
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, *transposed)):
        return False
    pairs = list(zip(module.kernel_size, module.stride, strict=True))
    gaps = isinstance(module, transposed) and any(kernel < stride for kernel, stride in pairs)
    return gaps or any(stride > 2 and kernel <= stride for kernel, stride in pairs)


def _cpu_has_bf16_units() -> bool:
    """Whether oneDNN computes bf16 in hardware: it may be held to fewer instructions than the processor has."""
    held = next((os.environ[name] for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ), "ALL")
    if not re.search("ALL|DEFAULT|BF16|FP16|AMX|AVX10", held.upper()):
        return False
    capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.10 does not tell: fp32 is safe
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """Context in which layers compute in a 16-bit type; with ``None`` it changes nothing."""
    return torch.autocast(device.type, dtype=precision or torch.bfloat16, enabled=precision is not None)


def scaler(model: nn.Module, amp: Amp) -> torch.amp.GradScaler:
    """The loss scaling that fp16 needs; with other precisions it changes nothing.

    Raises:
        ValueError: ``amp`` is not one of its words.
    """
    device = device_of(model)
    return torch.amp.GradScaler(device.type, enabled=choose(device, amp, model) is torch.float16)


# --- the optimizer's step ----------------------------------------------------------------------------------------------------


def use_fused_step(optimizer: torch.optim.Optimizer) -> None:
    """Let torch update all parameters in one kernel, where it can and the caller left the choice open (``fused=None``).

    To be called after the first backward pass: these kernels walk through memory as it lies, so each parameter must fill its
    own, and its gradient must be laid out as it is.
    """
    for group in optimizer.param_groups:
        open_choice = "fused" in group and group["fused"] is None and group.get("foreach") is None
        plain = not group.get("capturable") and not group.get("differentiable")
        if open_choice and plain and not optimizer.state and all(map(_fits_fused, group["params"])):
            group["fused"] = True


def _fits_fused(parameter: Tensor) -> bool:
    gradient = parameter.grad
    dense = parameter.is_contiguous() or (parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last))
    alike = gradient is None or (gradient.layout == torch.strided and _steps(gradient) == _steps(parameter))
    hooked = bool(parameter._backward_hooks)  # may lay out the next gradient in another way
    return parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda") and dense and alike and not hooked


def _steps(tensor: Tensor) -> list[int]:
    """Strides that matter: along a dimension of one nobody walks."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]
