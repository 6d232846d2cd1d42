"""Training shared out over the workers that torchrun started: all see the same batches, and each computes its own rows."""

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import _functions
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from course_utils import runtime

Value = TypeVar("Value")


class LostWorkerError(RuntimeError):
    """Another worker of the run was killed or failed; the message says how to go on."""


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turn what Gloo and NCCL say when a worker is lost into one clear error. A context, or a decorator.

    Raises:
        LostWorkerError: in place of such an error.
    """
    try:
        yield
    except RuntimeError as error:
        if runtime.world_size() == 1:
            raise
        if not isinstance(error, dist.DistError) and not re.search("gloo|nccl", str(error), re.IGNORECASE):
            raise
        raise LostWorkerError(
            f"rank {runtime.rank()} of {runtime.world_size()} lost contact with another worker, which was killed or failed: "
            "look for its own message, or in torchrun's report. With fit(..., checkpoint=file) the same command goes on from "
            "the last whole epoch, and torchrun --max-restarts=3 does so by itself."
        ) from error


def from_first(value: Value) -> Value:
    """``value`` as rank 0 has it. Other ranks wait here until rank 0 comes; without torchrun it is ``value``."""
    if runtime.world_size() == 1:
        return value
    _start()
    box: list[Any] = [value]
    dist.broadcast_object_list(box)
    return box[0]


@contextmanager
def in_turn() -> Iterator[None]:
    """Let the ranks run a block one after the other: what the first one downloads, the next ones find.

    Raises:
        LostWorkerError: a worker failed in the block.
    """
    with lost_workers_named():
        for _ in range(runtime.rank()):
            _barrier()
    yield
    with lost_workers_named():
        for _ in range(runtime.rank(), runtime.world_size()):
            _barrier()


def shared_out(model: nn.Module) -> nn.Module:
    """``model`` for training under torchrun, with the same parameters and buffers; without torchrun ``model`` itself."""
    if runtime.world_size() == 1:
        return model
    _start()
    return DataParallel(model)


class DataParallel(DistributedDataParallel):
    """A model that is called with the whole batch on every rank and answers with the whole batch's logits on every rank.

    Each rank computes its own rows and is sent the others'. So any loss sees the whole batch, as in one process, also with
    class weights or uneven shares; its gradient flows into the own rows, and torch's `DistributedDataParallel` adds up what
    the ranks found for the parameters. A batch with fewer rows than ranks is computed whole by every rank. Batch normalisation
    sees the whole batch too. Weights and buffers of rank 0 are sent to all when the object is made.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, static_graph=True)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, ...)`` in float32 of inputs ``(N, ...)``, equal on all ranks."""
        rank, size = runtime.rank(), runtime.world_size()
        if len(x) < size:
            return super().forward(x)
        start, stop = len(x) * rank // size, len(x) * (rank + 1) // size
        with _own_random_numbers(x.device), _WholeBatchNorm((stop - start) / len(x)):
            own = super().forward(x[start:stop]).float()
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * size)  # parameters get the mean over ranks, and need the sum
        whole = own.new_zeros(len(x), *own.shape[1:])
        whole[start:stop] = own.detach()
        dist.all_reduce(whole)
        return torch.cat([whole[:start], own, whole[stop:]])


def _start() -> None:
    if dist.is_initialized():
        return
    store, rank, size = next(dist.rendezvous("env://"))
    # torchrun keeps its store over restarts, with the addresses of workers that are gone (PyTorch's issue 135712).
    store = dist.PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    atexit.register(dist.destroy_process_group)


def _barrier() -> None:
    if runtime.world_size() > 1:
        _start()
        dist.all_reduce(torch.zeros(1))


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    """Draw other numbers on each rank (dropout), and leave the generators equal on all: where they were, or one number on."""
    generator = torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, ())) + runtime.rank())
        before = generator.get_state()
        yield
        drew = not torch.equal(before, generator.get_state())
    if drew:  # a model that draws nothing leaves the order of the next batches as it is in one process
        torch.rand(())


class _WholeBatchNorm(TorchFunctionMode):
    """Give batch normalisation the mean and variance of the whole batch, of which this rank has a ``share`` of the rows."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return (self.batch_norm if function is F.batch_norm else function)(*args, **(kwargs or {}))

    def batch_norm(self, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        if x.is_cuda:
            numbers = running_mean, running_var, eps, momentum, dist.group.WORLD, runtime.world_size()
            return _functions.SyncBatchNorm.apply(x, weight, bias, *numbers)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # torch's own is for GPUs alone
        var, mean = torch.var_mean(wide, [0, *range(2, x.ndim)], correction=0)
        whole_mean = _Sum.apply(self.share * mean)
        whole_var = _Sum.apply(self.share * (var + (mean - whole_mean) ** 2))
        if running_mean is not None:
            count = round(x.numel() / x.shape[1] / self.share)
            with torch.no_grad():
                running_mean.lerp_(whole_mean, momentum)
                running_var.lerp_(whole_var * (count / (count - 1)), momentum)
        scale = (whole_var + eps).rsqrt() if weight is None else (whole_var + eps).rsqrt() * weight
        channels = (-1, *[1] * (x.ndim - 2))
        normal = (wide - whole_mean.view(channels)) * scale.view(channels)
        return (normal if bias is None else normal + bias.view(channels)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over the ranks, of a tensor and of its gradient."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        return _Sum.forward(ctx, gradient.contiguous())
