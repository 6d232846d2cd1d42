"""The practical: arms that equal torch's own, operations that equal the formula, and runs that go on after a stop."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import augment, data, models, practical, precision, train

BRIEF = replace(practical.RECIPES["short"], epochs=2, batch_size=20, lr=0.05)


@pytest.fixture(scope="module")
def split():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (60, 1, 12, 12), dtype=torch.uint8, generator=generator)
    return data.Split(x, torch.arange(60) % 3)


def normalize(x, y):
    return x.float() / 255, y


def trained(split, arm, **options):
    model, _ = practical.train_arm(split, arm, BRIEF, 3, normalize, 3, width=2, padding=1, **options)
    return [weight.detach().clone() for weight in model.parameters()]


def by_hand(split, loss):
    """The same training, put together from torch's parts: another loss in place of softened targets."""
    model = models.fresh(models.ResNet18, 3, in_channels=1, num_classes=3, width=2)
    augmented = augment.chain(augment.random_crop(1), augment.random_flip(), normalize)
    loader = data.shuffled(split, 3, augmented, batch_size=20)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        sgd, 0.05, total_steps=2 * len(loader), pct_start=0.2, anneal_strategy="linear", cycle_momentum=False
    )
    model.train()
    for _ in range(2):
        for x, y in loader:
            sgd.zero_grad()
            loss(model(x), y).backward()
            sgd.step()
            cycle.step()
    return list(model.parameters())


@pytest.mark.parametrize(("arm", "smoothing"), [("plain", 0.0), ("smoothing", 0.1)])
def test_an_arm_without_mixup_is_torchs_own_training(split, arm, smoothing, monkeypatch):
    monkeypatch.setattr(precision, "choose", lambda device, amp, model=None: None)  # no 16-bit numbers: some CPUs have them
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    for ours, theirs in zip(trained(split, arm), by_hand(split, loss), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_arms_differ_and_a_seed_repeats_itself(split):
    weights = {arm: trained(split, arm) for arm in practical.ARMS}
    firsts = [torch.cat([weight.flatten() for weight in weights[arm]]) for arm in practical.ARMS]
    for number, first in enumerate(firsts):
        assert all(not torch.equal(first, other) for other in firsts[number + 1 :])
    assert all(map(torch.equal, weights["both"], trained(split, "both")))


def test_both_mixes_smoothed_targets(split):
    x, y = normalize(*split)
    torch.manual_seed(1)
    mixed, targets = practical.batch_transforms(3)["both"](x, y)
    torch.manual_seed(1)
    mixed_alone, hard = practical.batch_transforms(3)["mixup"](x, y)
    assert torch.equal(mixed, mixed_alone)
    torch.testing.assert_close(targets, 0.9 * hard + 0.1 / 3)


def test_an_unknown_arm_is_named_with_those_that_there_are(split):
    with pytest.raises(ValueError, match="no arm 'mix-up'; take one of plain, mixup, smoothing, both"):
        trained(split, "mix-up")


def test_a_run_that_was_cut_off_goes_on_to_the_same_weights(split, tmp_path, monkeypatch):
    fit, calls = train.fit, []

    def cut_off(model, loader, *, batch_transform, **options):
        def stop(x, y):
            calls.append(len(y))
            if len(calls) == 5:  # in the second epoch
                raise KeyboardInterrupt
            return batch_transform(x, y)

        return fit(model, loader, batch_transform=stop, **options)

    monkeypatch.setattr(practical.train, "fit", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trained(split, "mixup", checkpoint=tmp_path / "run.pt")
    monkeypatch.undo()
    assert all(map(torch.equal, trained(split, "mixup", checkpoint=tmp_path / "run.pt"), trained(split, "mixup")))


@pytest.mark.parametrize(("shape", "width"), [((3, 32, 32), 64), ((1, 28, 28), 8)])
def test_operations_are_those_of_the_formula(shape, width):
    """2 · k² · C_in · C_out · H · W forwards; backwards as many for inputs and for weights, but no gradient for the images."""
    counted = []

    def count(layer, _, output):
        weights = layer.weight.numel()
        places = output.shape[-2:].numel() if isinstance(layer, nn.Conv2d) else 1
        counted.append(2 * weights * places)

    model = models.ResNet18(shape[0], 10, width=width)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    assert len(counted) == 1 + 16 + 3 + 1
    assert practical.flops_of_an_image(shape, 10, width) == 3 * sum(counted) - counted[0]


def test_the_rate_of_products_is_a_speed():
    assert 1e7 < practical.matmul_rate(torch.device("cpu")) < 1e16


def test_a_recipe_with_milestones_falls_and_one_without_cycles():
    layer = nn.Linear(1, 1)
    falling = practical.RECIPES["lecture"].fit_options(layer, 1)
    assert isinstance(falling["scheduler"], torch.optim.lr_scheduler.MultiStepLR)
    assert falling["optimizer"].param_groups[0]["weight_decay"] == 2e-4
    cycling = practical.RECIPES["short"].fit_options(layer, 1)
    assert isinstance(cycling["scheduler"], train.EveryStep)
    loss = F.mse_loss(layer(torch.ones(1, 1)), torch.zeros(1, 1))
    loss.backward()
    cycling["optimizer"].step()
    assert cycling["optimizer"].param_groups[0]["nesterov"]
