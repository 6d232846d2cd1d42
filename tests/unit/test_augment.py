import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2 as T
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from torchvision.transforms.functional import crop

from course_utils import augment

LABELS = torch.arange(3)


def random_images(seed, n=5, channels=3, height=6, width=5):
    values = np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def apply(transform, x):
    return transform(x, torch.zeros(len(x)))[0]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 4]), st.data())
def test_normalize_equals_torchvision(seed, channels, draw):
    unit = st.lists(st.floats(0.05, 1), min_size=channels, max_size=channels)
    mean, std = draw.draw(unit), draw.draw(unit)
    x = random_images(seed, channels=channels)
    theirs = T.Compose([T.ToDtype(torch.float32, scale=True), T.Normalize(mean, std)])
    ours = apply(augment.normalize(torch.tensor(mean), torch.tensor(std)), x)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        apply(augment.normalize(torch.tensor(mean), torch.tensor(std)), x / 255), ours, rtol=1e-5, atol=1e-5
    )


def test_normalize_keeps_the_units_of_a_table():
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert apply(augment.normalize(torch.tensor([2.0, 20.0]), torch.tensor([1.0, 10.0])), x).tolist() == [[-1, -1], [1, 1]]


def test_normalize_gives_float32_for_float64_too():
    x = torch.ones(2, 3, dtype=torch.float64)
    assert apply(augment.normalize(torch.zeros(3), torch.ones(3)), x).dtype == torch.float32


@given(st.integers(0, 1000), st.sampled_from([torch.int16, torch.int32, torch.int64, torch.uint16]))
def test_integer_images_of_any_width_count_as_uint8(seed, kind):
    x = random_images(seed)
    transform = augment.normalize(torch.tensor([0.2, 0.5, 0.7]), torch.tensor([0.1, 0.3, 0.2]))
    assert torch.equal(apply(transform, x.to(kind)), apply(transform, x))


def test_boolean_images_are_black_and_white():
    x = random_images(0) > 127
    transform = augment.normalize(torch.tensor([0.2, 0.5, 0.7]), torch.tensor([0.1, 0.3, 0.2]))
    assert torch.equal(apply(transform, x), apply(transform, x.float()))


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(("kind", "bad"), [(torch.int16, -1), (torch.int32, 256), (torch.int64, 2**40), (torch.int8, -128)])
def test_integer_images_beyond_a_byte_are_refused(kind, bad, place):
    x = (random_images(0) // 2).to(kind)
    x.view(-1)[place] = bad
    with pytest.raises(ValueError, match=rf"{kind} from .*{bad}.*0\.\.255"):
        apply(augment.normalize(torch.zeros(3), torch.ones(3)), x)


def test_whole_numbers_of_a_table_are_taken_as_they_are():
    x = torch.tensor([[1, 1000], [3, -30]])
    assert apply(augment.normalize(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 10.0])), x).tolist() == [[-1, 100], [1, -3]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_statistics_that_are_not_finite_are_refused(bad):
    for mean, std in ((bad, 1.0), (0.0, bad)):
        with pytest.raises(ValueError, match="not finite"):
            augment.normalize(torch.tensor([0.0, mean]), torch.tensor([1.0, std]))


def test_a_first_batch_in_inference_mode_spoils_no_training():
    transform, x = augment.normalize(torch.zeros(3), torch.full((3,), 0.5)), random_images(0) / 255
    with torch.inference_mode():
        apply(transform, x)
    x.requires_grad_()
    apply(transform, x).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2))


@pytest.mark.parametrize("transform", [augment.random_crop(2), augment.random_flip()])
def test_a_batch_without_images_stays_one(transform):
    assert apply(transform, random_images(0)[:0]).shape == (0, 3, 6, 5)


def test_normalize_refuses_statistics_that_do_not_fit():
    with pytest.raises(ValueError, match=r"standard deviation 0.*drop it"):
        augment.normalize(torch.zeros(2), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"\(3,\) and std \(2,\)"):
        augment.normalize(torch.zeros(3), torch.ones(2))
    with pytest.raises(ValueError, match=r"\(C,\)"):
        augment.normalize(torch.tensor(0.5), torch.tensor(0.5))
    with pytest.raises(ValueError, match="does not have the 3 channels"):
        apply(augment.normalize(torch.zeros(3), torch.ones(3)), random_images(0, channels=1))


@given(st.integers(0, 1000), st.integers(1, 3), st.sampled_from([(4, 4), (5, 3), (1, 6)]), st.sampled_from([1, 3]))
def test_every_crop_is_a_window_that_torchvision_can_cut(seed, padding, size, channels):
    torch.manual_seed(seed)
    x = random_images(seed, 4, channels, *size)
    for image, cropped in zip(F.pad(x, [padding] * 4), apply(augment.random_crop(padding), x), strict=True):
        places = range(2 * padding + 1)
        windows = [crop(image, top, left, *size) for top in places for left in places]
        assert any(torch.equal(cropped, window) for window in windows)


def test_crop_keeps_dtype_and_works_on_floats():
    x = random_images(0)
    torch.manual_seed(0)
    whole = apply(augment.random_crop(2), x)
    torch.manual_seed(0)
    assert torch.equal(apply(augment.random_crop(2), x.float()), whole.float())
    assert whole.dtype == torch.uint8


def test_crop_places_are_uniform_and_independent_from_image_to_image():
    torch.manual_seed(0)
    image = torch.arange(1, 17, dtype=torch.uint8).reshape(1, 1, 4, 4)  # all pixels differ, so a window shows its place
    padded = F.pad(image, [1] * 4)[0]
    place_of = {crop(padded, top, left, 4, 4).numpy().tobytes(): 3 * top + left for top in range(3) for left in range(3)}
    assert len(place_of) == 9
    cropped = apply(augment.random_crop(1), image.expand(9000, 1, 4, 4))
    places = np.array([place_of[window.numpy().tobytes()] for window in cropped])
    assert chisquare(np.bincount(places, minlength=9)).pvalue > 0.01
    pairs = np.zeros((9, 9), int)
    np.add.at(pairs, (places[0::2], places[1::2]), 1)
    assert chi2_contingency(pairs).pvalue > 0.01


def test_flip_mirrors_left_to_right_with_its_probability():
    x = random_images(0, n=2000)
    assert torch.equal(apply(augment.random_flip(0.0), x), x)
    assert torch.equal(apply(augment.random_flip(1.0), x), x.flip(3))
    torch.manual_seed(0)
    half = apply(augment.random_flip(0.5), x)
    mirrored = (half == x.flip(3)).flatten(1).all(1)
    assert torch.equal(half, torch.where(mirrored[:, None, None, None], x.flip(3), x))
    assert chisquare(mirrored.long().bincount()).pvalue > 0.01


TRANSFORMS = {
    "crop": augment.random_crop(2),
    "flip": augment.random_flip(),
    "normalize": augment.normalize(torch.full((3,), 0.5), torch.full((3,), 0.25)),
    "all": augment.chain(
        augment.random_crop(1), augment.random_flip(), augment.normalize(torch.full((3,), 0.5), torch.full((3,), 0.25))
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_leaves_its_input_and_the_targets_alone(name):
    for x in (random_images(1), random_images(1).float()):
        before, y = x.clone(), torch.arange(len(x))
        out, targets = TRANSFORMS[name](x, y)
        assert torch.equal(x, before)
        assert targets is y
        assert out.shape == x.shape


@pytest.mark.parametrize("name", ["crop", "flip", "all"])
def test_a_seed_repeats_the_augmentation_and_another_changes_it(name):
    x = random_images(1, n=50)

    def augmented(seed):
        torch.manual_seed(seed)
        return apply(TRANSFORMS[name], x)

    assert torch.equal(augmented(0), augmented(0))
    assert not torch.equal(augmented(0), augmented(1))


def test_chain_goes_from_left_to_right():
    def add(x, y):
        return x + 1, y + 1

    def double(x, y):
        return x * 2, y * 2

    x, y = augment.chain(add, double)(torch.tensor([1]), torch.tensor([10]))
    assert (x.item(), y.item()) == (4, 22)
    assert augment.chain()(x, y) == (x, y)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="padding is 0"):
        augment.random_crop(0)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="probability lies between 0 and 1"):
            augment.random_flip(p)
    for transform in (augment.random_crop(1), augment.random_flip()):
        with pytest.raises(ValueError, match=r"\(B, C, H, W\), not shape \(3, 4, 4\)"):
            transform(torch.zeros(3, 4, 4), LABELS)
