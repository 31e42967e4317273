"""Laws of the random intensities, change by change."""

import pytest
import torch

from semivox.errors import ConfigError
from semivox.ops import intensity as module
from semivox.ops.intensity import DRAWS, Draw, intensity, with_noise

SHAPES = [(4, 2, 12, 10), (4, 2, 8, 8, 6)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def changed(monkeypatch, image, *, valid=None, **numbers):
    """The image after the named changes alone, each by exactly the given number."""
    monkeypatch.setitem(module.DRAWS, "weak", {name: Draw(1.0, value, value) for name, value in numbers.items()})
    return intensity(image, generator(), "weak", valid=valid)


def test_kind_none_is_the_image_itself_and_an_unknown_kind_is_refused():
    image = torch.randn(SHAPES[0])
    assert intensity(image, generator(), "none") is image
    with pytest.raises(ConfigError, match="did you mean 'strong'"):
        intensity(image, generator(), "stron")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_a_seed_decides_the_view_and_items_differ(shape, kind):
    image = torch.randn(shape[1:]).expand(32, *shape[1:])
    first, again, other = (intensity(image, generator(seed), kind) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.flatten(1).unique(dim=0)) > 16
    assert first.isfinite().all()
    torch.testing.assert_close(first.mean(), image.mean(), atol=0.3, rtol=0)
    torch.testing.assert_close(first.std(), image.std(), atol=0.3, rtol=0)


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_padding_stays_zero(kind):
    image = torch.randn(16, 1, 8, 8, 6) + 5
    valid = torch.ones(16, 8, 8, 6, dtype=torch.bool)
    valid[:, :3] = False
    image[:, :, :3] = 0
    assert (intensity(image, generator(), kind, valid=valid)[:, :, :3] == 0).all()


def test_range_and_moments_are_those_of_the_scan_without_its_padding(monkeypatch):
    scan = torch.rand(2, 1, 6, 6) + 5
    padded, valid = torch.zeros(2, 1, 6, 10), torch.zeros(2, 6, 10, dtype=torch.bool)
    padded[..., 4:], valid[..., 4:] = scan, True
    plain = changed(monkeypatch, scan, gamma=2.0, contrast=0.7)
    torch.testing.assert_close(changed(monkeypatch, padded, valid=valid, gamma=2.0, contrast=0.7)[..., 4:], plain)


def test_image_without_a_label_is_no_padding(monkeypatch):
    image, valid = torch.full((1, 1, 4, 4), 2.0), torch.zeros(1, 4, 4, dtype=torch.bool)
    assert (changed(monkeypatch, image, valid=valid, gain=1.5) == 3).all()


@pytest.mark.parametrize("kind", ["weak", "strong"])
@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_constant_image_gives_finite_numbers(kind, value):
    image = torch.full((32, 1, 6, 6, 6), value)
    nothing = torch.zeros(32, 6, 6, 6, dtype=torch.bool)
    assert intensity(image, generator(), kind).isfinite().all()
    assert intensity(image, generator(), kind, valid=nothing).isfinite().all()


def test_gain_and_offset_are_a_straight_line(monkeypatch):
    image = torch.randn(SHAPES[1])
    torch.testing.assert_close(changed(monkeypatch, image, gain=1.2, offset=0.3), 1.2 * image + 0.3)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gamma_keeps_order_mean_and_deviation(monkeypatch, gamma):
    image = torch.randn(SHAPES[1])
    bent = changed(monkeypatch, image, gamma=gamma)
    torch.testing.assert_close(bent.mean((2, 3, 4)), image.mean((2, 3, 4)))
    torch.testing.assert_close(bent.std((2, 3, 4)), image.std((2, 3, 4)))
    order = image.flatten(2).argsort(-1)
    assert (bent.flatten(2).gather(2, order).diff(dim=-1) >= 0).all()
    assert (bent - image).abs().max() > 0.1


def test_contrast_stretches_about_the_mean_within_the_range(monkeypatch):
    image = torch.randn(SHAPES[0])
    low, high, mean = image.amin((2, 3), True), image.amax((2, 3), True), image.mean((2, 3), True)
    expected = ((image - mean) * 1.5 + mean).clamp(low, high)
    torch.testing.assert_close(changed(monkeypatch, image, contrast=1.5), expected)


def test_a_bias_field_is_smooth_positive_and_as_strong_as_drawn(monkeypatch):
    image = torch.ones(3, 1, 24, 24, 16)
    image[:, :, 0, 0, 0] = 0  # the darkest voxel, which stays
    field = changed(monkeypatch, image, bias=0.3).log()[:, 0, 1:]
    assert field.abs().amax((1, 2, 3)).min() > 0.2
    assert field.abs().max() <= 0.3 + 1e-5
    assert max(field.diff(dim=axis).abs().max() for axis in (1, 2, 3)) < 0.15
    assert field.std() > 0.03


def test_blur_keeps_a_constant_and_spreads_a_point_by_its_deviation(monkeypatch):
    point = torch.zeros(1, 1, 15, 15)
    point[..., 7, 7] = 1
    spread = changed(monkeypatch, point, blur=1.0)[0, 0]
    across = (torch.arange(15) - 7.0) ** 2
    torch.testing.assert_close(spread.sum(), torch.tensor(1.0))
    torch.testing.assert_close((spread.sum(0) * across).sum(), torch.tensor(1.0), atol=1e-3, rtol=0)
    flat = torch.full((1, 1, 9, 9), 4.0)
    torch.testing.assert_close(changed(monkeypatch, flat, blur=1.0), flat)


def test_noise_has_its_deviation_and_every_channel_its_own(monkeypatch):
    noise = changed(monkeypatch, torch.zeros(2, 2, 32, 32), noise=0.1)
    assert abs(noise.std() - 0.1) < 0.01
    assert not torch.equal(noise[:, 0], noise[:, 1])


def test_autocast_changes_no_number():
    image = torch.randn(SHAPES[1])
    plain = intensity(image, generator(), "strong")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(intensity(image, generator(), "strong"), plain)


def test_strong_is_wider_than_weak_in_every_draw():
    for name, draw in DRAWS["weak"].items():
        wide = DRAWS["strong"][name]
        assert (wide.low <= draw.low, wide.high >= draw.high, wide.probability >= draw.probability) == (True,) * 3


def test_with_noise_is_bounded_by_its_clip():
    image = torch.zeros(2, 1, 32, 32)
    noise = with_noise(image, generator=generator())
    assert noise.abs().max() == pytest.approx(0.2)
    assert abs(noise.std() - 0.096) < 0.01  # a normal cut at two deviations
    assert with_noise(image, generator=generator(), scale=0.5, clip=0.1).abs().max() == pytest.approx(0.1)
