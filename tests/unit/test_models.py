import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils import models, runtime
from course_utils.models import MLP, VGG16, AlexNet, ResNet18, SmallCNN

BUILD = {
    "MLP": lambda channels, size: MLP(channels * size**2, 7, hidden=(8, 8), dropout=0.1, batch_norm=True),
    "SmallCNN": lambda channels, size: SmallCNN(channels, 7, image_size=size, width=4, dropout=0.1, batch_norm=True),
    "ResNet18": lambda channels, size: ResNet18(channels, 7, width=4),
    "AlexNet": lambda channels, size: AlexNet(channels, 7, width=4),
    "VGG16": lambda channels, size: VGG16(channels, 7, width=4),
}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [28, 32, 33, 64])
@pytest.mark.parametrize("name", BUILD)
def test_forward_and_backward_reach_every_parameter(name, size, channels):
    torch.manual_seed(0)
    model = BUILD[name](channels, size)
    logits = model(torch.randn(8, channels, size, size))
    assert logits.shape == (8, 7)
    F.cross_entropy(logits, torch.arange(8) % 7).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.fixture(scope="module")
def resnets():
    torch.manual_seed(0)
    ours = ResNet18()
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    pairs = list(zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), (value for (_, value), _ in pairs), strict=True)))
    return ours, theirs


def test_resnet18_has_the_published_number_of_parameters(resnets):
    assert sum(parameter.numel() for parameter in resnets[0].parameters()) == 11_173_962


@pytest.mark.parametrize("training", [True, False])
def test_resnet18_equals_torchvision_with_the_same_weights(resnets, training):
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ours, theirs = (model.train(training) for model in resnets)
    torch.testing.assert_close(ours(x), theirs(x))
    for (name, mine), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other, msg=name)  # running statistics, after the training pass too


def test_resnet18_starts_as_random_torch_layers_do():
    layer = ResNet18(width=8).stem[0]
    assert layer.weight.abs().max() <= (1 / (3 * 9)) ** 0.5


def kinds(model):
    return [type(layer).__name__ for layer in model]


@given(st.lists(st.integers(1, 6), max_size=3), st.sampled_from([0.0, 0.5]), st.booleans())
def test_mlp_layers_stand_in_the_usual_order_and_nothing_follows_the_output(hidden, dropout, batch_norm):
    model = MLP(12, 3, hidden=tuple(hidden), dropout=dropout, batch_norm=batch_norm)
    block = ["Linear", *(["BatchNorm1d"] if batch_norm else []), "ReLU", *(["Dropout"] if dropout else [])]
    assert kinds(model) == ["Flatten", *block * len(hidden), "Linear"]
    linears = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linears] == [*hidden, 3]
    assert all((layer.bias is None) == batch_norm for layer in linears[:-1])  # the normalisation has a shift of its own
    assert linears[-1].bias is not None
    assert all(layer.p == dropout for layer in model if isinstance(layer, nn.Dropout))
    assert model(torch.randn(5, 3, 2, 2)).shape == (5, 3)


@pytest.mark.parametrize(("dropout", "batch_norm"), [(0.0, False), (0.3, True)])
def test_small_cnn_layers_stand_in_the_usual_order_and_nothing_follows_the_output(dropout, batch_norm):
    block = ["Conv2d", *(["BatchNorm2d"] if batch_norm else []), "ReLU"]
    expected = [*block, *block, "Flatten", *(["Dropout"] if dropout else []), "Linear"]
    assert kinds(SmallCNN(dropout=dropout, batch_norm=batch_norm)) == expected


@pytest.mark.parametrize(("build", "convolutions", "linears"), [(AlexNet, 5, 3), (VGG16, 13, 3)])
def test_the_classics_have_their_published_plan(build, convolutions, linears):
    layers = list(build())
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == convolutions
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == linears
    assert isinstance(layers[-1], nn.Linear)
    assert sum(isinstance(layer, nn.Dropout) for layer in layers) == 2


def test_vgg16_at_full_width_has_the_channels_of_the_paper():
    channels = [layer.out_channels for layer in VGG16(width=64) if isinstance(layer, nn.Conv2d)]
    assert channels == [64, 64, 128, 128, *[256] * 3, *[512] * 6]


SLICED = [MLP(28 * 28, 3), SmallCNN(), AlexNet(1, width=4), VGG16(1, width=4)]


@pytest.mark.parametrize("model", SLICED, ids=lambda model: type(model).__name__)
def test_a_slice_is_a_chain_of_the_same_layers(model):
    model.eval()
    x = torch.rand(2, 1, 28, 28)
    body, head = model[:-1], model[-1]
    assert isinstance(head, nn.Linear)
    assert head is list(model)[-1]
    torch.testing.assert_close(head(body(x)), model(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(0, 3), "in_features is 0"),
        (lambda: MLP(4, 0), "num_classes is 0"),
        (lambda: MLP(4, 3, hidden=(5, 0)), r"hidden\[1\] is 0"),
        (lambda: MLP(4, 3, dropout=1.0), "dropout is 1.0"),
        (lambda: MLP(4, 3, hidden=(64)), r"hidden is 64; .*\(64,\)"),
        (lambda: SmallCNN(0), "in_channels is 0"),
        (lambda: SmallCNN(image_size=0), "image_size is 0"),
        (lambda: SmallCNN(dropout=-0.1), "dropout is -0.1"),
        (lambda: ResNet18(width=0), "width is 0"),
        (lambda: AlexNet(num_classes=-1), "num_classes is -1"),
        (lambda: AlexNet(dropout=2), "dropout is 2"),
        (lambda: VGG16(in_channels=0), "in_channels is 0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# --- fresh -------------------------------------------------------------------------------------------------------------------


def small_net(width=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width))


@pytest.mark.parametrize(("make", "architecture"), [(SmallCNN, {"width": 4, "dropout": 0.5}), (small_net, {"width": 5})])
def test_a_fresh_network_is_what_lessons_make_by_hand(make, architecture):
    ours = models.fresh(make, 7, **architecture)
    after = torch.rand(3)
    runtime.seed_everything(7)
    by_hand = make(**architecture).to(runtime.device())
    assert ours.state_dict().keys() == by_hand.state_dict().keys()
    for name, weight in by_hand.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight)
    assert torch.equal(torch.rand(3), after), "what is drawn afterwards, such as dropout, is the same too"
    other = models.fresh(make, 8, **architecture).state_dict()
    assert any(not torch.equal(other[name], weight) for name, weight in by_hand.state_dict().items())


def test_a_fresh_network_stands_on_the_device_of_the_profile(monkeypatch):
    monkeypatch.setattr(models.runtime, "device", lambda: torch.device("meta"))
    assert next(models.fresh(small_net, 0).parameters()).device.type == "meta"


def test_what_makes_no_fresh_network_is_refused():
    for make, words in (
        (small_net(), "a network already.*Sequential"),
        (lambda: 3, "returned a int"),
        (lambda: None, "NoneType"),
    ):
        with pytest.raises(ValueError, match=words):
            models.fresh(make, 0)
    with pytest.raises(ValueError, match="seed is -1"):
        models.fresh(small_net, -1)
    with pytest.raises(TypeError, match="depth"):
        models.fresh(small_net, 0, depth=3)
