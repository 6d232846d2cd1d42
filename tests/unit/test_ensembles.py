import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, mode
from torch import nn

from course_utils.data import TensorLoader
from course_utils.models import MLP, SmallCNN
from course_utils.techniques import ensembles


def random_logits(seed, members=5, samples=30, classes=4):
    return torch.randn(members, samples, classes, generator=torch.Generator().manual_seed(seed))


# Combiners


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(0, 9), st.integers(1, 5))
def test_the_plain_vote_is_the_mode(seed, members, samples, classes):
    named = torch.randint(classes, (members, samples), generator=torch.Generator().manual_seed(seed))
    expected = mode(named.numpy(), axis=0).mode if samples else np.zeros(0)
    assert ensembles.vote(named, classes).tolist() == expected.tolist()


@given(st.integers(0, 1000), st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(any))
def test_a_whole_weight_counts_as_that_many_members(seed, weights):
    named = torch.randint(3, (len(weights), 20), generator=torch.Generator().manual_seed(seed))
    repeated = named.repeat_interleave(torch.tensor(weights), dim=0)
    assert torch.equal(ensembles.vote(named, 3, torch.tensor(weights)), ensembles.vote(repeated, 3))


def test_of_equal_votes_the_first_class_wins():
    assert ensembles.vote(torch.tensor([[2, 1], [1, 0]]), 3).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("named", "weights", "message"),
    [
        (torch.tensor([[0, 3]]), None, "0 to 3; 3 classes are numbered 0 to 2"),
        (torch.tensor([[-1, 0]]), None, "-1 to 0"),
        (torch.rand(2, 4), None, r"float32.*logits.argmax\(2\)"),
        (torch.tensor([0, 1]), None, r"shape \(2,\)"),
        (torch.zeros(0, 4, dtype=torch.int64), None, r"\(0, 4\)"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.ones(3), "each of the 2 members one"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([1.0, -1.0]), "at least 0"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2), "not all 0"),
        (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([1.0, math.nan]), "nan"),
    ],
)
def test_bad_votes_are_named(named, weights, message):
    with pytest.raises(ValueError, match=message):
        ensembles.vote(named, 3, weights)


@given(st.integers(0, 1000), st.integers(1, 6))
def test_the_average_is_a_distribution_and_no_worse_than_the_mean_member(seed, members):
    logits = random_logits(seed, members).double()
    y = torch.randint(4, (30,), generator=torch.Generator().manual_seed(seed))
    p = ensembles.average(logits)
    torch.testing.assert_close(p.sum(1), torch.ones(30, dtype=torch.float64))
    loss = F.nll_loss(p.log(), y)
    assert loss <= torch.stack([F.cross_entropy(one, y) for one in logits]).mean() + 1e-12
    torch.testing.assert_close(ensembles.average(logits[:1]), logits[0].softmax(1))


@pytest.mark.parametrize("logits", [torch.zeros(3, 4), torch.zeros(0, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_what_is_no_stack_of_logits_is_refused(logits):
    with pytest.raises(ValueError, match=r"\(M, N, K\)"):
        ensembles.average(logits)


# Diversity and bootstrap


@given(st.integers(0, 1000), st.integers(2, 6))
def test_disagreement_is_the_mean_over_pairs(seed, members):
    named = random_logits(seed, members).argmax(2)
    pairs = [(i, j) for i in range(members) for j in range(i)]
    expected = np.mean([(named[i] != named[j]).numpy().mean() for i, j in pairs])
    assert ensembles.disagreement(named).item() == pytest.approx(expected)
    assert ensembles.disagreement(named[:1].expand(members, -1)) == 0


@pytest.mark.parametrize("named", [torch.zeros(1, 5, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)])
def test_disagreement_needs_two_members_and_a_sample(named):
    with pytest.raises(ValueError, match="two members"):
        ensembles.disagreement(named)


def test_a_bootstrap_draws_every_position_alike_and_leaves_out_one_in_e():
    generator, n, times = torch.Generator().manual_seed(0), 200, 500
    draws = [ensembles.bootstrap(n, generator) for _ in range(times)]
    assert chisquare(torch.bincount(torch.cat(draws), minlength=n)).pvalue > 0.001
    held = np.mean([len(draw.unique()) / n for draw in draws])
    assert held == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.005)


def test_a_bootstrap_is_fixed_by_its_generator():
    first, again, other = (ensembles.bootstrap(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_cannot_be_drawn_from():
    with pytest.raises(ValueError, match="n is 0"):
        ensembles.bootstrap(0, torch.Generator())


# Members trained at once

OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
}
MODELS = {
    "mlp": lambda: MLP(64, 3, hidden=(8, 8)),
    "cnn": lambda: SmallCNN(1, 3, image_size=8, width=4),
    "batch norm": lambda: MLP(64, 3, hidden=(8,), batch_norm=True),
}


def fresh(seed, make=MODELS["mlp"], n=50, batch_size=16):
    """A member, and a loader of its own bootstrap sample in its own order; the last batch is smaller."""
    generator = torch.Generator().manual_seed(123)
    x = torch.randn(n, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (n,), generator=generator)
    torch.manual_seed(seed)
    own = torch.Generator().manual_seed(seed)
    rows = ensembles.bootstrap(n, own)
    return make().double(), TensorLoader(x[rows], y[rows], batch_size, shuffle=True, generator=own)


def train_alone(model, loader, optimizer, epochs):
    model.train()
    means = []
    for _ in range(epochs):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
        means.append(total / len(loader.x))
    return means


def start_together(seeds, **options):
    return (list(part) for part in zip(*(fresh(seed, **options) for seed in seeds), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_members_trained_at_once_equal_members_trained_alone(name, optimizer):
    members, loaders = start_together(range(4), make=MODELS[name])
    history = ensembles.fit_together(members, loaders, optimizer=OPTIMIZERS[optimizer], epochs=3, progress=False)
    for seed, member in enumerate(members):
        model, loader = fresh(seed, make=MODELS[name])
        before = copy.deepcopy(model.state_dict())
        means = train_alone(model, loader, OPTIMIZERS[optimizer](model.parameters()), 3)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(member.state_dict()[key], value, rtol=0, atol=1e-9)
        assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
        torch.testing.assert_close(history[:, seed], torch.tensor(means, dtype=torch.float64), rtol=0, atol=1e-9)
        assert not member.training


def test_a_member_does_not_depend_on_its_neighbours():
    pair, trio = ([*start_together(seeds)] for seeds in ((5, 6), (6, 7, 8)))
    for members, loaders in (pair, trio):
        ensembles.fit_together(members, loaders, optimizer=OPTIMIZERS["adam"], epochs=2, progress=False)
    for one, other in zip(pair[0][1].parameters(), trio[0][0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_another_loss_and_soft_targets():
    members, _ = start_together((0, 1))
    x, p = torch.randn(20, 64).double(), torch.rand(20, 3).double().softmax(1)
    loaders = [TensorLoader(x, p, 10) for _ in members]
    smoothed = lambda logits, y: F.cross_entropy(logits, y, label_smoothing=0.1)  # noqa: E731
    options = {"optimizer": OPTIMIZERS["sgd"], "epochs": 20, "progress": False}
    history = ensembles.fit_together(members, loaders, loss=smoothed, **options)
    assert history.shape == (20, 2)
    assert (history[-1] < history[0]).all()


def test_dropout_differs_between_equal_members():
    members = [nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 2)) for _ in range(2)]
    members[1].load_state_dict(members[0].state_dict())
    loaders = [TensorLoader(torch.ones(8, 4), torch.zeros(8, dtype=torch.int64), 8) for _ in members]
    ensembles.fit_together(members, loaders, optimizer=OPTIMIZERS["sgd"], epochs=1, progress=False)
    assert not torch.equal(members[0][0].weight, members[1][0].weight)


def small_loader(n=8, batch_size=4):
    return TensorLoader(torch.randn(n, 64), torch.zeros(n, dtype=torch.int64), batch_size)


@pytest.mark.parametrize(
    ("members", "loaders", "epochs", "message"),
    [
        (0, [], 1, "0 members and 0 loaders"),
        (2, [small_loader()], 1, "2 members and 1 loaders"),
        (1, [small_loader()], 0, "epochs is 0"),
        (2, [small_loader(), small_loader(12)], 1, r"\[2, 3\] batches"),
        (2, [small_loader(8), small_loader(7)], 1, "one size"),
        (1, [[]], 1, "empty"),
    ],
)
def test_what_cannot_be_trained_together_is_named(members, loaders, epochs, message):
    models = [MLP(64, 3, hidden=(4,)) for _ in range(members)]
    with pytest.raises(ValueError, match=message):
        ensembles.fit_together(models, loaders, optimizer=OPTIMIZERS["sgd"], epochs=epochs, progress=False)


def test_a_loss_that_is_not_finite_names_the_member_and_spoils_none():
    members = [MLP(64, 3, hidden=(4,)) for _ in range(2)]
    before = copy.deepcopy(members[0].state_dict())
    bad = TensorLoader(torch.full((8, 64), torch.nan), torch.zeros(8, dtype=torch.int64), 4)
    with pytest.raises(ArithmeticError, match=r"members \[1\] is not finite in epoch 1"):
        ensembles.fit_together(members, [small_loader(), bad], optimizer=OPTIMIZERS["sgd"], epochs=2, progress=False)
    for key, value in members[0].state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
