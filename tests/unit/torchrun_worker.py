"""What test_parallel.py runs in one process and by torchrun in two: `torchrun … torchrun_worker.py (cases|killed) FOLDER`."""

import contextlib
import io
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from course_utils import files, parallel, record, runtime
from course_utils.data import TensorLoader
from course_utils.models import MLP, SmallCNN
from course_utils.techniques.mixing import mixup
from course_utils.train import EarlyStopping, EveryStep, evaluate, fit, predict


def blobs(n=52, seed=0, features=4, classes=3):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    return torch.randn(n, features, generator=generator) + 2 * F.one_hot(y, features), y


def loader(n=52, batch_size=8, **options):
    return TensorLoader(*blobs(n), batch_size, shuffle=True, **options)


def images():
    x, y = blobs(51, features=64)
    return TensorLoader(x.reshape(51, 1, 8, 8), y, 8, shuffle=True)


def numbers():
    x, _ = blobs()
    return TensorLoader(x, x @ torch.tensor([[1.0], [2.0], [0.0], [-1.0]]), 8, shuffle=True)


VALIDATION = TensorLoader(*blobs(21, seed=1), 10)
UNLABELLED = blobs(20, seed=2)[0]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def mlp(**options):
    return MLP(4, 3, hidden=(16,), **options)


class WithSpareHead(nn.Module):
    """Some parameters never get a gradient, and others get it from the extra loss alone."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.extra, self.unused = mlp(), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.body(x))


def entropy(model, epoch):
    """An unlabelled term: draws samples from the global generator, and calls the model."""
    x = UNLABELLED[torch.randperm(20)[:6]]
    probabilities = model(x).softmax(1)
    return 0.1 * epoch * -(probabilities * probabilities.log()).sum(1).mean()


def by_extra_head(model, epoch):
    return (model.extra(model.body(UNLABELLED)) ** 2).mean()


def noise(x, y):
    """Draws from the global generators of torch, NumPy and Python."""
    return x + 0.1 * torch.randn_like(x) + 0.1 * np.random.randn() + random.gauss(0, 0.1), y  # noqa: NPY002


def weighted(logits, targets):
    """Not a mean over samples: each batch divides by the weights of its labels."""
    return F.cross_entropy(logits, targets, weight=torch.tensor([1.0, 5.0, 0.2]))


class Temperature(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.inverse = nn.Parameter(torch.ones(()))

    def forward(self, logits, targets):
        return F.cross_entropy(logits * self.inverse, targets)


def cosine(optimizer):
    return EveryStep(CosineAnnealingLR(optimizer, 28))


BEST = {"val_loader": VALIDATION, "early_stopping": EarlyStopping(patience=2)}
# (model, loader, optimizer, scheduler, other arguments of fit): each net gives the same curve in one process and in two.
RUNS = {
    "even": (mlp, loader, sgd, None, {}),
    "uneven batches": (mlp, lambda: loader(batch_size=7), adamw, None, {}),
    "a last batch of one": (mlp, lambda: loader(49), sgd, None, {}),
    "torch loader": (mlp, lambda: DataLoader(TensorDataset(*blobs()), 8, shuffle=True), sgd, None, {}),
    "mixup": (mlp, loader, sgd, None, {"batch_transform": mixup(0.4, 3)}),
    "global noise": (mlp, loader, sgd, None, {"batch_transform": noise}),
    "class weights": (mlp, lambda: loader(51), sgd, None, {"loss": weighted}),
    "regression": (lambda: MLP(4, 1, hidden=(16,)), numbers, adamw, None, {"loss": F.mse_loss}),
    "extra loss": (mlp, lambda: loader(51), sgd, None, {"extra_loss": entropy, "val_loader": VALIDATION}),
    "spare heads": (WithSpareHead, loader, sgd, None, {"extra_loss": by_extra_head}),
    "early stopping": (mlp, loader, sgd, lambda it: MultiStepLR(it, [3], gamma=30), {"epochs": 10, **BEST}),
    "cosine by step": (mlp, loader, adamw, cosine, {}),
    "plateau": (mlp, loader, adamw, lambda it: ReduceLROnPlateau(it, patience=0, threshold=9.0), {"val_loader": VALIDATION}),
    "batch norm": (lambda: mlp(batch_norm=True), lambda: loader(51), sgd, None, {"val_loader": VALIDATION}),
    "convolutions and batch norm": (
        lambda: SmallCNN(1, 3, image_size=8, width=4, batch_norm=True),
        images,
        adamw,
        None,
        {"val_loader": images()},
    ),
}


def outcome(model, history):
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]
    return {"rows": rows, "best": (history.best_epoch, history.stopped_early), "weights": model.state_dict()}


def trained(model, batches, optimizer=sgd, scheduler=None, options=None, **more):
    optimizer = optimizer(model)
    settings = {"epochs": 4, "amp": "off", "progress": False, **(options or {}), **more}
    history = fit(model, batches, optimizer=optimizer, scheduler=scheduler and scheduler(optimizer), **settings)
    return outcome(model, history) | {"seconds": [row["seconds"] for row in history.rows], "next": torch.rand(3)}


def same_curve(name):
    make, batches, *rest = RUNS[name]
    runtime.seed_everything(3)
    return trained(make(), batches(), *rest)


def parameter_of_the_loss(folder):
    runtime.seed_everything(3)
    loss = Temperature()
    found = trained(mlp(), loader(51), lambda model: torch.optim.SGD([*model.parameters(), *loss.parameters()], 0.1), loss=loss)
    return found | {"inverse": loss.inverse.detach()}


def samples_seen(folder):
    """Numbers of the samples that this process computed, epoch by epoch."""
    x, y = torch.arange(51.0)[:, None].repeat(1, 4), torch.arange(51) % 3
    model, seen = mlp(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, 0].clone()))
    runtime.seed_everything(0)
    trained(model, TensorLoader(x / 100, y, 8, shuffle=True), epochs=2)
    return [torch.cat(seen[:7]), torch.cat(seen[7:])]


def dropout(folder):
    model, masks, orders = nn.Sequential(nn.Dropout(), nn.Linear(4, 3)), [], []
    model[0].register_forward_hook(lambda module, inputs, output: masks.append(output[0] != 0))

    def watched(x, y):
        orders.append(y)
        return x, y

    runtime.seed_everything(0)
    batches = TensorLoader(torch.ones(64, 4).repeat(1, 8), torch.arange(64) % 3, 8, shuffle=True)
    model[1] = nn.Linear(32, 3)
    found = trained(model, batches, batch_transform=watched)
    return found | {"masks": torch.stack(masks), "orders": torch.stack(orders)}


def differently_seeded(folder):
    """Ranks that come with other weights and random numbers become equal to rank 0."""
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(runtime.rank())
    model, own = mlp(batch_norm=True), torch.Generator().manual_seed(runtime.rank())
    found = trained(model, loader(generator=own), batch_transform=noise, val_loader=VALIDATION)
    return found | {"next": torch.tensor([torch.rand(()), np.random.rand(), random.random()])}  # noqa: NPY002


def mixed_precision(folder):
    runtime.seed_everything(0)
    return {amp: trained(mlp(dropout=0.1), loader(51), amp=amp) for amp in ("bf16", "fp16")}


def after_fit(folder):
    """The model that comes back is the caller's own: trained on, evaluated and looked at as if nothing had been around it."""
    runtime.seed_everything(0)
    model = mlp()
    kind = type(model)
    trained(model, loader())
    for x, y in loader():
        F.cross_entropy(model(x), y).backward()
    x, y = blobs()
    loss = evaluate(model, VALIDATION, amp="off").loss
    alone = evaluate(model, VALIDATION, amp="off").loss if runtime.rank() == 0 else loss  # needs no other rank
    return {
        "same kind": type(model) is kind,
        "equal": loss == alone,
        "logits": predict(model, VALIDATION, amp="off").logits,
        "gradient": model[-1].weight.grad,
    }


def epochs_in(path):
    return len(torch.load(path, weights_only=True)["history"]["rows"])


def printed(folder):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        trained(mlp(), loader(), progress=True)
    return out.getvalue()


def written(folder):
    """Each rank counts what it writes. Writes are slow, and each rank looks into the file right after the run."""
    real, writes, kept = files.whole, [], []

    def slow(path):
        time.sleep(0.3)
        writes.append(path)
        return real(path)

    path = folder / f"{runtime.world_size()}.pt"
    files.whole = slow
    try:
        for epochs in (2, 4):
            runtime.seed_everything(3)
            found = trained(mlp(), loader(), epochs=epochs, checkpoint=path)
            kept.append(epochs_in(path))
    finally:
        files.whole = real
    claims = record.Claims("99")
    claims.add("rank", "number of the rank", {0: runtime.rank()}, each_at_most=9)
    os.environ["COURSE_RESULTS"] = str(folder)
    if runtime.rank() == 0:
        claims.save()
    parallel.from_first(None)
    if runtime.rank() > 0:  # it would replace the file of rank 0
        claims.save()
    del os.environ["COURSE_RESULTS"]
    return found | {"writes": len(writes), "kept": kept}


def one_at_a_time(folder):
    """Downloads: no two ranks at once, and the first has the file ready for the second."""
    path, looked = folder / f"download-{runtime.world_size()}", []
    with parallel.in_turn():
        looked.append(path.exists())
        time.sleep(0.2 * (1 - runtime.rank()))
        path.touch()
    return looked


OTHERS = (
    parameter_of_the_loss,
    samples_seen,
    dropout,
    differently_seeded,
    mixed_precision,
    after_fit,
    printed,
    written,
    one_at_a_time,
)


def cases(folder):
    return {name: same_curve(name) for name in RUNS} | {case.__name__: case(folder) for case in OTHERS}


def killed(folder):
    """Rank 1 is killed in epoch 3, or, in a run that has got so far, in epoch 4; not when torchrun has started it again."""
    calls, path = [], folder / "run.pt"
    done = epochs_in(path) if path.exists() else 0
    line = f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}, rank {runtime.rank()}, after epoch {done}\n"
    os.write(1, line.encode())  # at once: `print` may write the end of a line after another worker's line
    (folder / f"pid-{os.getpid()}").touch()

    def strike(x, y):
        calls.append(1)
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if first and runtime.rank() == 1 and done + (len(calls) - 1) // 7 == (3 if done else 2) and len(calls) % 7 == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x, y

    runtime.seed_everything(3)
    return trained(mlp(), loader(), batch_transform=strike, checkpoint=path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    mode, folder = sys.argv[1], Path(sys.argv[2])
    torch.save({"cases": cases, "killed": killed}[mode](folder), folder / f"{mode}-{runtime.rank()}.pt")
