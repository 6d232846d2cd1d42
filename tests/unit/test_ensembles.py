import copy
import functools
import math
import types
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mode
from torch import nn
from torch.nn.utils import prune

from course_utils import train
from course_utils.data import TensorLoader
from course_utils.models import MLP, SmallCNN
from course_utils.techniques import ensembles, imbalance


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


# Diversity


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
    rows = torch.randint(n, (n,), generator=own)
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


# Members that are not alike

OPTIONS = {"optimizer": OPTIMIZERS["sgd"], "progress": False}


def net(*between, width=8):
    return nn.Sequential(nn.Linear(64, width), *between, nn.Linear(width, 3))


class Calls(nn.Module):
    """A network with a function and a number of its own."""

    def __init__(self, function, number=1):
        super().__init__()
        self.linear, self.function, self.number = nn.Linear(64, 3), function, number

    def forward(self, x):
        return self.linear(self.function(x)) * self.number


def times(factor):
    return lambda x: x * factor


def with_(model, change):
    change(model)
    return model


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


class AlwaysEqual:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def __eq__(self, other):
        return True


def marked(factor):
    def function(x):
        return x * function.factor

    function.factor = factor
    return function


def with_globals(**names):
    return types.FunctionType((lambda x: x * SCALE).__code__, names)  # noqa: F821


def of_a_factory(factor=1):
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 3)

        @property
        def scale(self):
            return factor

        def forward(self, x):
            return self.linear(x) * self.scale

    return Made()


def normed(**options):
    return net(nn.BatchNorm1d(8, **options))


APART = {
    "another activation": (net(nn.ReLU()), net(nn.Tanh()), "1 is Tanh, not ReLU"),
    "another slope": (net(nn.LeakyReLU(0.1)), net(nn.LeakyReLU(0.2)), "negative_slope of 1 is 0.2, not 0.1"),
    "another dropout": (net(nn.Dropout(0.1)), net(nn.Dropout(0.3)), "p of 1 is 0.3"),
    "another epsilon": (normed(), normed(eps=1e-2), "eps of 1"),
    "another momentum": (normed(), normed(momentum=0.3), "momentum of 1"),
    "another stride": (nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3, stride=2), "stride of the network"),
    "another padding": (nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3, padding=1), "padding"),
    "another kind of padding": (nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3, padding_mode="circular"), "padding_mode"),
    "another dilation": (nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3, dilation=2), "dilation"),
    "another width": (net(), net(width=9), "out_features of 0 is 9, not 8"),
    "without a bias": (nn.Linear(64, 3), nn.Linear(64, 3, bias=False), "bias is missing"),
    "a part more": (net(), net(nn.ReLU()), "its parts are"),
    "another class": (nn.Linear(64, 3), type("Other", (nn.Linear,), {})(64, 3), "the network is Other, not Linear"),
    "another function": (Calls(torch.relu), Calls(torch.tanh), "function of the network"),
    "another lambda": (Calls(lambda x: x + 1), Calls(lambda x: x + 2), "another <function"),
    "another closure": (Calls(times(1)), Calls(times(2)), "another <function"),
    "another partial": (
        Calls(functools.partial(F.leaky_relu, negative_slope=0.1)),
        Calls(functools.partial(F.leaky_relu, negative_slope=0.2)),
        "negative_slope=0.2",
    ),
    "another value in slots": (Calls(Slotted(1)), Calls(Slotted(2)), "another <"),
    "objects that call themselves equal": (Calls(AlwaysEqual(1)), Calls(AlwaysEqual(2)), "another <"),
    "another attribute of a function": (Calls(marked(1)), Calls(marked(2)), "another <function"),
    "another global": (Calls(with_globals(SCALE=1)), Calls(with_globals(SCALE=2)), "another <function"),
    "another wrapped function": (
        Calls(functools.lru_cache(times(1))),
        Calls(functools.lru_cache(times(2))),
        "another <functools",
    ),
    "another class of a factory": (of_a_factory(1), of_a_factory(2), "the network is Made, not Made"),
    "another deque": (Calls(torch.relu, deque([1])), Calls(torch.relu, deque([2])), "number of the network"),
    "true and 1": (Calls(torch.relu, True), Calls(torch.relu, 1), "number of the network"),
    "another number": (Calls(torch.relu, 1), Calls(torch.relu, 2), "number of the network is 2, not 1"),
    "another plain tensor": (Calls(torch.relu, torch.ones(3)), Calls(torch.relu, torch.arange(3)), "number of the network"),
    "another list": (Calls(torch.relu, 1), Calls(torch.relu, [1]), "number of the network"),
    "another module outside the tree": (
        with_(Calls(torch.relu), lambda model: setattr(model, "kept", [nn.Linear(2, 2)])),
        with_(Calls(torch.relu), lambda model: setattr(model, "kept", [nn.Linear(2, 2)])),
        "kept of the network",
    ),
    "another forward": (
        nn.Linear(64, 3),
        with_(nn.Linear(64, 3), lambda model: setattr(model, "forward", lambda x: F.linear(x, -model.weight))),
        "forward of the network",
    ),
    "a hook": (
        nn.Linear(64, 3),
        with_(nn.Linear(64, 3), lambda model: model.register_forward_hook(lambda module, given, out: 2 * out)),
        "_forward_hooks of the network",
    ),
    "a frozen weight": (net(), with_(net(), lambda model: model[0].weight.requires_grad_(False)), "0.weight is .*frozen"),
    "a frozen part": (normed(), with_(normed(), lambda model: model[1].eval()), "1 is frozen in evaluation mode in one"),
    "another type": (net(), net().double(), "0.weight is torch.float64"),
    "a tie": (
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
        with_(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), lambda model: setattr(model[1], "weight", model[0].weight)),
        "1.weight is missing",
    ),
}


@pytest.mark.parametrize("name", APART)
def test_members_that_compute_differently_are_refused(name):
    first, second, message = APART[name]
    same = copy.deepcopy(first)
    before = copy.deepcopy(second.state_dict())
    modes = [part.training for part in second.modules()]
    with pytest.raises(ValueError, match=f"member 2 is not built as member 0: .*{message}"):
        ensembles.fit_together([first, same, second], [small_loader() for _ in range(3)], epochs=1, **OPTIONS)
    for key, value in second.state_dict().items():
        assert torch.equal(value, before[key])
    assert [part.training for part in second.modules()] == modes


@dataclass
class Settings:
    values: torch.Tensor


def unset():
    def function():
        return value

    if False:
        value = 1
    return function


def hide_a_module_that_refers_back(model):
    hidden = nn.Identity()
    hidden.owner, model.kept = [model], [hidden]
    hidden.me = [hidden]


SHARED = nn.ReLU()
ALIKE = {
    "functions": lambda: Calls(torch.relu),
    "closures over equal values": lambda: Calls(times(2)),
    "partials": lambda: Calls(functools.partial(F.leaky_relu, negative_slope=0.1), 0.5),
    "plain tensors and arrays": lambda: Calls(torch.relu, torch.tensor(2.0)),
    "not-a-numbers": lambda: with_(net(), lambda model: setattr(model, "best", [math.nan, np.arange(3), {"a": (1, None)}])),
    "not-a-numbers in arrays": lambda: with_(
        net(), lambda model: setattr(model, "kept", [np.array([math.nan]), torch.tensor([math.nan, 1])])
    ),
    "tensors in containers": lambda: with_(
        net(), lambda model: setattr(model, "kept", [SimpleNamespace(t=torch.ones(3)), deque([torch.ones(2)])])
    ),
    "tensors in a data class": lambda: with_(net(), lambda model: setattr(model, "kept", Settings(torch.ones(3)))),
    "objects with slots": lambda: Calls(Slotted(2)),
    "classes of a factory": of_a_factory,
    "a generator of random numbers": lambda: with_(net(), lambda model: setattr(model, "kept", np.random.default_rng(0))),
    "an optimizer": lambda: with_(net(), lambda model: setattr(model, "kept", torch.optim.SGD(model.parameters(), 0.1))),
    "a variable without a value": lambda: with_(net(), lambda model: setattr(model, "kept", unset())),
    "hidden modules that refer back": lambda: with_(net(), hide_a_module_that_refers_back),
    "an expanded buffer": lambda: with_(net(), lambda model: model.register_buffer("ones", torch.ones(1).expand(3))),
    "a method of their own": lambda: with_(net(), lambda model: setattr(model, "other", model.forward)),
    "a list of their own parts": lambda: with_(net(), lambda model: setattr(model, "listed", [model[0], model[0].weight])),
    "a part without weights in common": lambda: net(SHARED),
    "a layer used twice": lambda: with_(net(nn.Identity(), width=64), lambda model: model.insert(0, model[0])),
    "tied weights": lambda: with_(
        nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)), lambda model: setattr(model[1], "weight", model[0].weight)
    ),
    "drawing in evaluation mode": lambda: Calls(functools.partial(F.dropout, p=0.5, training=True)),
    "batch norm that counts": normed,
}


@pytest.mark.parametrize("name", ALIKE)
def test_members_that_are_alike_are_trained_whatever_they_hold(name):
    members = [ALIKE[name]() for _ in range(3)]
    before = [copy.deepcopy(member.state_dict()) for member in members]
    history = ensembles.fit_together(members, [small_loader() for _ in members], epochs=2, **OPTIONS)
    assert history.isfinite().all()
    for member, old in zip(members, before, strict=True):
        assert any(not torch.equal(value, old[key]) for key, value in member.state_dict().items())


def test_a_difference_that_no_attribute_shows_is_seen_in_the_losses():
    rates = {}

    class Elsewhere(nn.Linear):
        def forward(self, x):
            return super().forward(x) * rates[id(self)]

    members = [Elsewhere(64, 3) for _ in range(3)]
    for factor, member in zip((1, 1, 5), members, strict=True):
        rates[id(member)] = factor
    with pytest.raises(ValueError, match=r"members \[2\] give another loss than with the code of member 0"):
        ensembles.fit_together(members, [small_loader() for _ in members], epochs=1, **OPTIONS)


@pytest.mark.parametrize("name", ["a layer used twice", "tied weights"])
def test_weights_at_several_places_are_trained_as_alone(name):
    together, alone = [], []
    for made in (together, alone):
        torch.manual_seed(0)
        made += [ALIKE[name]().double() for _ in range(2)]
    x, y = torch.randn(12, 64).double(), torch.arange(12) % 3
    ensembles.fit_together(together, [TensorLoader(x, y, 4) for _ in together], epochs=2, **OPTIONS)
    for member, one in zip(together, alone, strict=True):
        train_alone(one, TensorLoader(x, y, 4), OPTIMIZERS["sgd"](one.parameters()), 2)
        for key, value in one.state_dict().items():
            torch.testing.assert_close(member.state_dict()[key], value, rtol=0, atol=1e-9)


def test_a_member_that_is_given_twice_is_refused():
    members = [net(), net()]
    for again in (members[0], nn.Sequential(members[0][0], nn.Linear(8, 3))):
        with pytest.raises(ValueError, match=r"members 0 and 2 share 0.weight.*copy.deepcopy"):
            ensembles.fit_together([*members, again], [small_loader() for _ in range(3)], epochs=1, **OPTIONS)


def test_members_whose_weights_lie_in_the_same_memory_are_refused():
    start = torch.zeros(3, 64)
    members = [with_(nn.Linear(64, 3), lambda model: setattr(model, "weight", nn.Parameter(start))) for _ in range(2)]
    with pytest.raises(ValueError, match=r"members 0 and 1 share weight.*clone"):
        ensembles.fit_together(members, [small_loader() for _ in members], epochs=1, **OPTIONS)
    members = [nn.Linear(64, 3) for _ in range(3)]
    members[2].bias.data = members[1].bias.data[:]
    with pytest.raises(ValueError, match="members 1 and 2 share bias"):
        ensembles.fit_together(members, [small_loader() for _ in members], epochs=1, **OPTIONS)


def test_members_whose_weights_stand_side_by_side_in_one_tensor_are_trained():
    start = torch.zeros(2, 3, 64)
    members = [with_(nn.Linear(64, 3), lambda model, own=own: setattr(model, "weight", nn.Parameter(own))) for own in start]
    ensembles.fit_together(members, [small_loader() for _ in members], epochs=1, **OPTIONS)
    assert all(member.weight.any() for member in members)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model[0].weight.register_hook(lambda g: g * 0), "0.weight has a hook on its gradient"),
        (lambda model: model[1].bias.register_post_accumulate_grad_hook(lambda p: None), "1.bias has a hook on its gradient"),
        (lambda model: model[1].register_full_backward_hook(lambda *given: None), "1 has a backward hook"),
        (lambda model: model.register_full_backward_pre_hook(lambda *given: None), "the network has a backward hook"),
        (lambda model: prune.l1_unstructured(model[1], "weight", 0.5), "weight of 1 is computed by a hook"),
        (lambda model: nn.utils.spectral_norm(model[0]), "weight of 0 is computed by a hook"),
    ],
)
def test_steps_beside_the_code_of_layers_are_refused(change, message):
    with pytest.raises(ValueError, match=f"member 1: {message}.*train.fit"):
        ensembles.fit_together([net(), with_(net(), change)], [small_loader() for _ in range(2)], epochs=1, **OPTIONS)


def test_lambdas_on_two_lines_are_alike():
    members = [
        Calls(lambda x: next(value.relu() for value in [x])),
        Calls(lambda x: next(value.relu() for value in [x])),
    ]
    ensembles.fit_together(members, [small_loader() for _ in members], epochs=1, **OPTIONS)


@pytest.mark.parametrize("make", [lambda: net().requires_grad_(False), lambda: nn.Flatten()])
def test_members_with_nothing_to_train_are_refused(make):
    with pytest.raises(ValueError, match="nothing to train"):
        ensembles.fit_together([make(), make()], [small_loader() for _ in range(2)], epochs=1, **OPTIONS)


def test_an_optimizer_that_needs_the_loss_again_is_refused():
    with pytest.raises(ValueError, match="LBFGS computes the loss many times"):
        ensembles.fit_together([net()], [small_loader()], optimizer=torch.optim.LBFGS, epochs=1, progress=False)


def test_inputs_beyond_the_range_of_the_members_are_named_so():
    loader = TensorLoader(torch.full((4, 64), 1e6), torch.zeros(4, dtype=torch.int64), 4)
    with pytest.raises(ArithmeticError, match="numbers beyond 65504, the members' largest"):
        ensembles.fit_together([net().half()], [loader], epochs=1, **OPTIONS)


def test_the_comparison_uses_up_no_random_number():
    class Drawing(nn.Module):
        """Draws where nothing is trained, if it is told to: only while members are compared."""

        def __init__(self, draws):
            super().__init__()
            self.linear, self.draws, self.drawn = nn.Linear(64, 3), draws, 0

        def forward(self, x):
            if self.draws and not torch.is_grad_enabled():
                self.drawn += 1
                torch.randn(())
            return self.linear(x)

    states = []
    for draws in (True, False):
        torch.manual_seed(0)
        members = [Drawing(draws) for _ in range(2)]
        ensembles.fit_together(members, [small_loader() for _ in range(2)], epochs=1, **OPTIONS)
        assert (members[0].drawn > 0) == draws
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_what_is_frozen_stays_as_it_is():
    members = [normed() for _ in range(2)]
    for member in members:
        member[0].weight.requires_grad_(False)
        member[1].eval()
    before = copy.deepcopy([member.state_dict() for member in members])
    ensembles.fit_together(members, [small_loader() for _ in members], epochs=2, **OPTIONS)
    for member, old in zip(members, before, strict=True):
        moved = {key for key, value in member.state_dict().items() if not torch.equal(value, old[key])}
        assert moved == {"0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("freeze", ["nothing", "weights", "statistics"])
def test_what_is_frozen_is_what_fit_freezes_also_when_it_is_called_again(freeze):
    """A body that was trained before comes in evaluation mode: that alone freezes nothing."""

    def made():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        train.fit(body, small_loader(), optimizer=torch.optim.SGD(body.parameters(), lr=0.1), epochs=1, progress=False)
        model = nn.Sequential(body, nn.Linear(8, 3))
        if freeze == "weights":
            body.requires_grad_(False)
        if freeze == "statistics":
            body.train()
            body[1].eval()
        return model

    def statistics(model):
        return [model[0][place].num_batches_tracked.item() for place in (1, 4)]

    alone, together, before = made(), [made(), made()], statistics(made())
    for times in (1, 2):
        optimizer = torch.optim.SGD((p for p in alone.parameters() if p.requires_grad), lr=0.1)
        train.fit(alone, small_loader(), optimizer=optimizer, epochs=1, progress=False)
        ensembles.fit_together(together, [small_loader() for _ in together], epochs=1, **OPTIONS)
        steps = times * len(small_loader())
        moved = {"nothing": [steps, steps], "weights": [0, 0], "statistics": [0, steps]}[freeze]
        for model in (alone, *together):
            assert statistics(model) == [old + more for old, more in zip(before, moved, strict=True)]
            assert not any(part.training for part in model.modules())


# Inputs and labels of any kind, wherever they stand


def loader_of(x, y):
    return TensorLoader(x, y, 4)


INPUTS, NAMES = torch.randn(12, 64, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def fitted(*loaders, make=net, **options):
    torch.manual_seed(0)
    members = [make(nn.ReLU()) for _ in loaders]
    history = ensembles.fit_together(members, loaders, **OPTIONS | {"epochs": 2} | options)
    return [history, *(weight for member in members for weight in member.state_dict().values())]


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_floating_inputs_and_targets_of_any_type_are_taken(kind):
    x, p = INPUTS.to(kind), F.one_hot(NAMES, 3)
    expected = fitted(*[loader_of(x.float(), p.float()) for _ in range(2)])
    for found, value in zip(fitted(*[loader_of(x, p.to(kind)) for _ in range(2)]), expected, strict=True):
        assert torch.equal(found, value)


def test_labels_of_members_may_differ_in_type():
    expected = fitted(loader_of(INPUTS, NAMES), loader_of(INPUTS, NAMES))
    found = fitted(loader_of(INPUTS, NAMES.to(torch.uint8)), loader_of(INPUTS, NAMES.to(torch.int16)))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.bool])
def test_integer_inputs_that_no_layer_takes_are_named(kind):
    loaders = [loader_of((INPUTS * 10).to(kind), NAMES) for _ in range(2)]
    with pytest.raises(ValueError, match=rf"member 0 does not take inputs that are {kind}.*augment.normalize"):
        fitted(*loaders)


def test_integer_inputs_that_a_layer_takes_are_taken():
    words = torch.randint(9, (12, 5))
    make = lambda _: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))  # noqa: E731
    assert fitted(loader_of(words, NAMES), loader_of(words, NAMES), make=make)[0].isfinite().all()


@pytest.mark.parametrize("place", [0, 5, 11])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_is_named_wherever_it_stands(place, bad):
    x = INPUTS.clone()
    x[place, 7] = bad
    message = rf"members \[1\] is not finite in epoch 1, first in step {place // 4 + 1} \(member 1\): the inputs"
    with pytest.raises(ArithmeticError, match=message):
        fitted(loader_of(INPUTS, NAMES), loader_of(x, NAMES))


def test_a_learning_rate_that_is_too_high_is_no_fault_of_the_inputs():
    with pytest.raises(ArithmeticError, match="smaller learning rate"):
        fitted(loader_of(INPUTS, NAMES), epochs=9, optimizer=lambda weights: torch.optim.SGD(weights, lr=1e30))


def test_a_label_beyond_the_classes_is_named_with_member_and_step():
    labels = NAMES.clone()
    labels[9] = 3
    members = [net(), net()]
    before = copy.deepcopy(members[0].state_dict())
    members[1].eval()
    with pytest.raises(ValueError, match=r"labels of member 1 go from 1 to 3 in step 3 of epoch 1; 3 classes"):
        ensembles.fit_together(members, [loader_of(INPUTS, NAMES), loader_of(INPUTS, labels)], epochs=1, **OPTIONS)
    assert all(torch.equal(value, before[key]) for key, value in members[0].state_dict().items())
    assert [member.training for member in members] == [True, False]


def test_targets_that_would_be_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) and the targets are \(4,\)"):
        fitted(loader_of(INPUTS, NAMES.float()), loss=F.mse_loss)


@pytest.mark.parametrize("gradients_off", [torch.no_grad, torch.inference_mode])
def test_members_are_trained_also_where_gradients_are_off(gradients_off):
    expected = fitted(loader_of(INPUTS, NAMES))
    with gradients_off():
        inside = fitted(loader_of(INPUTS, NAMES))
        torch.manual_seed(0)
        made_there, batches = net(nn.ReLU()), [(INPUTS[i : i + 4].clone(), NAMES[i : i + 4].clone()) for i in (0, 4, 8)]
    ensembles.fit_together([made_there], [batches], epochs=2, **OPTIONS)
    for found in (inside[1:], made_there.state_dict().values()):
        assert all(torch.equal(*pair) for pair in zip(found, expected[1:], strict=True))


@pytest.mark.parametrize("loss", [functools.partial(imbalance.focal_loss, gamma=2.0), imbalance.adjusted_loss(torch.ones(3))])
def test_the_losses_of_lessons_can_be_used(loss):
    assert fitted(loader_of(INPUTS, NAMES), loader_of(INPUTS, NAMES), loss=loss)[0].isfinite().all()


def test_what_vmap_cannot_run_is_said_in_words():
    class Branches(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else -super().forward(x)

    for make in (lambda _: Branches(64, 3), lambda _: normed(momentum=None)):
        with pytest.raises(ValueError, match=r"vmap cannot run these members together: use train.fit"):
            fitted(loader_of(INPUTS, NAMES), make=make)


def test_batches_that_do_not_go_together_are_refused():
    pairs = [(INPUTS[:4], NAMES[:4]), (INPUTS[4:8], NAMES[4:8])]
    with pytest.raises(ValueError, match=r"members \[1\] end before step 2"):
        fitted(iter(pairs), iter(pairs[:1]))
    with pytest.raises(ValueError, match=r"types .*torch.float32.*torch.int64"):
        fitted([(INPUTS[:4], NAMES[:4])], [(INPUTS[:4].long(), NAMES[:4])])
    with pytest.raises(ValueError, match="must be one number, a mean"):
        fitted(pairs, loss=functools.partial(F.cross_entropy, reduction="none"))
    with pytest.raises(ValueError, match=r"a batch has one sample.*drop_last"):
        fitted([(INPUTS[:1], NAMES[:1])], make=lambda _: normed())


# Votes and averages that are not finite


def test_a_member_without_errors_decides_as_in_the_limit():
    """AdaBoost's weight for it is infinite."""
    named = torch.tensor([[0, 1, 2], [1, 1, 1], [1, 1, 1]])
    assert ensembles.vote(named, 3, torch.tensor([math.inf, 5, 5])).tolist() == [0, 1, 2]
    assert ensembles.vote(named, 3, torch.tensor([math.inf, math.inf, math.inf])).tolist() == [1, 1, 1]
    assert ensembles.vote(named, 4, torch.tensor([0, math.inf, 0])).tolist() == [1, 1, 1]


@given(st.integers(0, 1000), st.sampled_from([5e-324, 1e-300, 1e300, 1.7e308]))
def test_votes_depend_on_the_ratios_of_weights_alone(seed, unit):
    named = random_logits(seed).argmax(2)
    weights = torch.tensor([0.5, 1, 0.25, 0.25, 1], dtype=torch.float64)
    if unit < 1e-310:
        weights = weights.ceil()
    assert torch.equal(ensembles.vote(named, 4, weights * unit), ensembles.vote(named, 4, weights))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_give_no_probabilities_are_refused(bad):
    logits = random_logits(0)
    logits[3, 29, 1] = bad
    with pytest.raises(ValueError, match=r"members \[3\] are not finite"):
        ensembles.average(logits)


def test_a_class_that_is_ruled_out_has_probability_zero():
    logits = random_logits(0)
    logits[:, :, 2] = -torch.inf
    assert (ensembles.average(logits)[:, 2] == 0).all()
    with pytest.raises(ValueError, match="not finite"):
        ensembles.average(torch.full((1, 1, 3), -torch.inf))


@pytest.mark.parametrize("weights", [[2.0000000001, 1, 1], [3e39, 1e39, 1e39], [3e-50, 1e-50, 1e-50]])
def test_weights_in_a_list_keep_their_digits_and_range(weights):
    assert ensembles.vote(torch.tensor([[1], [0], [0]]), 2, weights).tolist() == [1]
