"""Draws of pixels are uniform for any numbers, and of the variance that theory gives."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from semivox.ops import sampling
from semivox.ops.sampling import SCHEMES, Pool, draw, grid_cells
from toy_draws import COUNT, STRATA, generator, positions, shares

SIZES = (5, 29, 37, 1000, 5233)
EVERY = pytest.mark.parametrize("scheme", SCHEMES)

# Unbiased, and two samplers that are not.


def released(pixels, rows, calls, count=COUNT):
    """The released index scheme as described: 4 x 4 blocks of a square of edge round(sqrt(N)), the rest uniform."""
    random, edge = generator(), round(math.sqrt(pixels))
    cuts = torch.arange(5) * edge // 4
    per_block = int(count * edge**2 / pixels / 16)
    for _ in range(calls):
        parts = []
        for block in range(16):
            (top, bottom), (left, right) = cuts[block // 4 :][:2].tolist(), cuts[block % 4 :][:2].tolist()
            y = torch.randint(top, bottom, (rows, per_block), generator=random)
            parts.append(y * edge + torch.randint(left, right, (rows, per_block), generator=random))
        found = torch.cat(parts, 1)
        rest = torch.randint(pixels, (rows, count), generator=random)
        found = torch.cat([torch.where(found < pixels, found, rest[:, : found.shape[1]]), rest[:, found.shape[1] :]], 1)
        yield found[:, :count]


def one_less(pixels, rows, calls, count=COUNT, less=0.05):
    """Uniform draws but for one pixel in the middle, drawn `less` less."""
    random = generator()
    for _ in range(calls):
        found = torch.randint(pixels, (rows, count), generator=random)
        refused = (found == pixels // 2) & (torch.rand(found.shape, generator=random) < less)
        yield torch.where(refused, (found + 1) % pixels, found)


def bias(draws, pixels):
    """Return the largest |z| of a pixel's count and of 37 runs of pixels, and the |z| of the mean of random values.

    The deviation is that between calls, for the mean between rows.
    """
    values = torch.randn(pixels, generator=generator(1), dtype=torch.float64)
    runs = torch.arange(pixels) * 37 // pixels
    counts, means, taken = [], [], 0
    for found in draws:
        counts.append(torch.bincount(found.flatten(), minlength=pixels).double())
        means.append(values[found].mean(1))
        taken = found.numel()
    counts, means = torch.stack(counts), torch.cat(means)[:, None]
    expected = torch.full((1, pixels), taken / pixels, dtype=torch.float64)
    in_runs = [torch.zeros(len(x), 37).double().index_add_(1, runs, x) for x in (counts, expected)]
    return max(z(counts, expected[0]), z(in_runs[0], in_runs[1][0])), z(means, values.mean())


def z(x, expected):
    return ((x.mean(0) - expected).abs() / (x.std(0) / math.sqrt(len(x))).clamp(min=1e-9)).max().item()


def enough(pixels):
    """Return (rows, calls) in which 2 % less of a pixel, or of a run of many, are five standard deviations."""
    return math.ceil((5 / 0.02) ** 2 * min(pixels, 37) / COUNT / 200), 200


@EVERY
@pytest.mark.parametrize("of", ["own", "others"])
@pytest.mark.parametrize("pixels", SIZES)
def test_every_pixel_is_drawn_equally_often(pixels, of, scheme):
    worst, mean = bias(positions(pixels, *enough(pixels), of=of, scheme=scheme), pixels)
    assert worst < 5
    assert mean < 4


@pytest.mark.parametrize("pixels", [29, 37, 5233])  # an edge that 4 does not divide, or pixels beyond the square
def test_the_released_index_scheme_is_found_biased(pixels):
    worst, _ = bias(released(pixels, *enough(pixels)), pixels)
    assert worst > 10


@pytest.mark.parametrize("pixels", SIZES[:3])
def test_one_pixel_drawn_five_percent_less_is_found(pixels):
    worst, _ = bias(one_less(pixels, *enough(pixels)), pixels)
    assert worst > 5


@pytest.mark.parametrize("strata", [3, 37, 100, 256, 300])
@EVERY
def test_no_ratio_of_draws_to_strata_is_biased(scheme, strata):
    assert max(bias(positions(37, *enough(37), scheme=scheme, strata=strata, count=255), 37)) < 5


def constant(values, shape, *_):
    return torch.full(shape, next(values), dtype=torch.float64)


@pytest.mark.parametrize(("scheme", "mirrored"), [("naive", False), ("sg", False), ("sag", False), ("sag", True)])
@pytest.mark.parametrize("of", ["own", "others"])
@pytest.mark.parametrize(("count", "strata"), [(1, 1), (7, 3), (6, 5), (3, 8)])
def test_each_draw_alone_is_exactly_uniform(scheme, mirrored, of, count, strata, monkeypatch):
    """Over a lattice of the random numbers, fine enough for pixels and strata, and for each class of a ragged image."""
    class_ids = torch.tensor([0, 1, 1, 2, 0, 7, 1, 0, 1, 1, 2, 0, -1, 0, 1, 1])  # 16 pixels in 2 cells
    cell_ids = torch.arange(16) // 8
    mirrors = torch.tensor([7, 6, 5, -1, -1, 2, 1, 0, *range(15, 7, -1)]) if mirrored else None
    for own in range(3):
        candidates = (class_ids == own) if of == "own" else (class_ids != own) & (class_ids >= 0) & (class_ids < 3)
        pixels, used = int(candidates.sum()), min(strata, -(-count // 2) if scheme == "sag" else count)
        taken = torch.zeros(count, 16)
        for turn in range(used):
            for place in range(pixels):
                lattice = iter([(place + 0.5) / pixels, (turn + 0.37) / used])  # in the order of use
                monkeypatch.setattr(sampling, "_uniform", partial(constant, lattice))
                options = {"of": of, "scheme": scheme, "strata": strata, "mirrors": mirrors}
                found, _ = draw(class_ids, cell_ids, classes=3, count=count, **options)
                taken[torch.arange(count), found[own]] += 1
        assert torch.equal(taken, (candidates * float(used)).expand(count, -1)), own


# The variance that theory gives.


def theory(values, scheme, strata=STRATA, count=COUNT):
    """Return the variance of the mean of `count` draws: (1/n) sum_m w_m sigma_m^2 with w_m = 1/M, naive with M = 1."""
    weights = shares(len(values), strata if scheme == "sg" else 1)
    within = weights @ values**2 - (weights @ values) ** 2
    return (within.mean() / count).item()


def measured(values, scheme, *, strata=STRATA, calls=20):
    """Return the variance of the mean of the draws over 2000 * calls repetitions."""
    found = positions(len(values), 2000, calls, scheme=scheme, strata=strata)
    return torch.cat([values[x].mean(1) for x in found]).var().item()


def field(name, pixels):
    t = (torch.arange(pixels, dtype=torch.float64) + 0.5) / pixels
    random = torch.randn(pixels, generator=generator(2), dtype=torch.float64)
    return {"linear": t, "quadratic": (t - 0.5) ** 2, "sine": (6 * math.pi * t).sin(), "noise": random}[name]


@pytest.mark.parametrize("name", ["linear", "quadratic", "sine", "noise"])
@pytest.mark.parametrize("pixels", [37, 1000])
def test_the_variance_of_sg_is_that_within_strata(name, pixels):
    values = field(name, pixels)
    expected = theory(values, "sg")
    assert measured(values, "sg") == pytest.approx(expected, rel=0.05)
    assert measured(values, "naive") == pytest.approx(theory(values, "naive"), rel=0.05)
    assert expected <= theory(values, "naive")


@pytest.mark.parametrize(("name", "ratio"), [("linear", 0.0039), ("quadratic", 0.02), ("sine", 0.11)])
def test_the_gain_of_sg_on_a_thousand_pixels(name, ratio):
    values = field(name, 1000)
    assert theory(values, "sg") / theory(values, "naive") == pytest.approx(ratio, rel=0.1)


def test_sg_gains_nothing_where_all_strata_have_one_mean():
    values = (2 * math.pi * STRATA * field("linear", 1600)).cos()
    assert measured(values, "sg") / measured(values, "naive") == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("pixels", "ratio"), [(5, 0.0126), (29, 0.0011), (1000, 0), (5233, 0)])
def test_sag_has_nearly_no_variance_on_a_linear_field(pixels, ratio):
    values = field("linear", pixels)
    found = measured(values, "sag") / theory(values, "naive")
    assert found == pytest.approx(ratio, rel=0.1, abs=1e-5)
    assert pixels < 1000 or found < 1e-3


def test_sag_doubles_the_variance_of_a_field_that_is_even_about_every_centre():
    values = (2 * math.pi * STRATA * field("linear", 1600)).cos()
    assert measured(values, "sag") / measured(values, "sg") == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", ["quadratic", "sine", "noise"])
@pytest.mark.parametrize("pixels", [37, 1000])
def test_sag_never_has_more_than_twice_the_variance_of_sg(name, pixels):
    values = field(name, pixels)
    assert measured(values, "sag", calls=5) <= 2.1 * theory(values, "sg")


def test_the_printed_theorem_gives_a_negative_variance():
    """Without the weight w_m of the groups: Var_NS - (1/n) sum_m (mu_m - mu)^2 on a linear field."""
    values = field("linear", 1000)
    naive = theory(values, "naive")
    between = (shares(1000) @ values - values.mean()).square()
    assert (naive - between.sum().item() / COUNT) / naive == pytest.approx(-14.9, abs=0.1)
    assert naive - between.mean().item() / COUNT == pytest.approx(theory(values, "sg"))


@pytest.mark.parametrize("scheme", ["sg", "sag"])
@pytest.mark.parametrize("pixels", [29, 37, 1000, 5233])
def test_any_run_of_pixels_gets_its_share_of_the_draws(pixels, scheme):
    strata = COUNT if scheme == "sg" else COUNT // 2
    (found,) = positions(pixels, 20, 1, scheme=scheme, strata=strata)
    counts = torch.zeros(20, pixels + 1).scatter_add_(1, found + 1, torch.ones(found.shape)).cumsum(1)
    excess = counts - COUNT / pixels * torch.arange(pixels + 1)  # of the run from the first pixel to each
    assert excess.amax(1).sub(excess.amin(1)).max() < (2 if scheme == "sg" else 4)  # of any run


@pytest.mark.parametrize("scheme", ["sg", "sag"])
def test_on_smooth_fields_over_eight_images_the_cells_take_most_of_the_variance(scheme):
    coarse = torch.randn(8, 1, 3, 3, generator=generator(3), dtype=torch.float64)
    values = F.interpolate(coarse, size=(64, 64), mode="bicubic", align_corners=True).flatten()
    cells = grid_cells(8, (64, 64), (4, 4)).flatten()
    pool = Pool(torch.full_like(cells, 2000), cells, classes=2001)

    def variance(scheme):
        found, valid = pool.draw(COUNT, of="others", scheme=scheme, generator=generator())
        return values[found[valid]].mean(1).var().item()

    assert variance(scheme) / variance("naive") < 0.2


def test_a_stratum_for_each_cell_of_each_image_is_what_makes_it_so():
    """With as many strata as one image has cells, a stratum is half an image."""
    values = torch.randn(8, generator=generator(3), dtype=torch.float64).repeat_interleave(64)
    values = values + field("linear", 64).mul(6).repeat(8)
    assert theory(values, "sg", strata=128) < 0.02 * theory(values, "naive")
    assert theory(values, "sg", strata=8) > 0.5 * theory(values, "naive")
