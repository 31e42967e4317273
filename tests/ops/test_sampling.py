"""Draws of pixels: always of their class, in range, from every grid; what is refused; the example."""

import doctest
import math
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from semivox.errors import ConfigError, GeometryError
from semivox.ops import sampling
from semivox.ops.sampling import SCHEMES, Pool, cell_mirrors, draw, draw_from_each, grid_cells
from toy_draws import STRATA, generator, positions, shares

EVERY = pytest.mark.parametrize("scheme", SCHEMES)


def ragged(seed=0, pixels=3000, classes=5):
    """Return class ids of which 3 is absent and some are out of range, and cell ids in no order."""
    class_ids = torch.randint(-1, classes + 2, (pixels,), generator=generator(seed))
    return class_ids.where(class_ids != 3, 2), torch.randint(48, (pixels,), generator=generator(seed + 1))


@EVERY
@pytest.mark.parametrize("count", [1, 2, 255, 4000])
def test_what_is_drawn_is_of_the_class_or_of_another_and_never_out_of_range(scheme, count):
    class_ids, cell_ids = ragged()
    pool = Pool(class_ids, cell_ids, classes=5)
    own, found = pool.draw(count, scheme=scheme, generator=generator())
    others, present = pool.draw(count, of="others", scheme=scheme, generator=generator())
    assert own.shape == others.shape == (5, count)
    assert found.tolist() == [True, True, True, False, True]
    assert present.all()
    row = torch.arange(5)[:, None]
    assert (class_ids[own] == row)[found].all()
    drawn = class_ids[others]
    assert ((drawn != row) & (drawn >= 0) & (drawn < 5)).all()


@EVERY
@pytest.mark.parametrize("u", [0.0, 1 - 2**-24, 1 - 2**-53])
@pytest.mark.parametrize("of", ["own", "others"])
def test_the_ends_of_the_random_numbers_stay_in_range(scheme, u, of, monkeypatch):
    monkeypatch.setattr(sampling, "_uniform", lambda shape, *_: torch.full(shape, u, dtype=torch.float64))
    for pixels in (1, 3, 49, 5233):
        class_ids = torch.arange(3).repeat_interleave(pixels)
        for strata in (1, 3, 16, 49, 300):
            found, _ = draw(class_ids, class_ids, classes=3, count=300, of=of, scheme=scheme, strata=strata)
            assert (found >= 0).all()
            assert (found < 3 * pixels).all()
            assert ((class_ids[found] == torch.arange(3)[:, None]) == (of == "own")).all()


@pytest.mark.parametrize("u", [None, 0.0, 1 - 2**-24])
@pytest.mark.parametrize("pixels", [16, 37, 5233])
def test_a_pair_lies_opposite_in_its_stratum(pixels, u, monkeypatch):
    if u is not None:
        monkeypatch.setattr(sampling, "_uniform", lambda shape, *_: torch.full(shape, u, dtype=torch.float64))
    (found,) = positions(pixels, 50, 1, scheme="sag")
    first, second = found.unflatten(1, (-1, 2)).unbind(2)
    inside = shares(pixels) > 0  # (M, N)
    together = inside[:, first] & inside[:, second]
    middle = (2 * torch.arange(STRATA) + 1).view(-1, 1, 1) * pixels / STRATA  # twice the centre, from pixels' edges
    opposite = (first + second + 1 - middle).abs() <= 1
    assert (together & opposite).any(0).all()


@EVERY
def test_a_class_of_one_pixel_gives_that_pixel(scheme):
    class_ids = torch.tensor([0, 0, 1, 0])
    found, _ = draw(class_ids, torch.zeros(4), classes=2, count=7, scheme=scheme)
    assert found[1].tolist() == [2] * 7
    others, _ = draw(class_ids, torch.zeros(4), classes=2, count=7, of="others", scheme=scheme)
    assert others[0].tolist() == [2] * 7


@EVERY
@pytest.mark.parametrize("of", ["own", "others"])
@pytest.mark.parametrize("class_ids", [[], [9, -1], [2, 2], [0]], ids=["none", "out of range", "last", "first"])
def test_what_has_no_pixel_is_masked(class_ids, of, scheme):
    found, valid = draw(
        torch.tensor(class_ids).long(), torch.zeros(len(class_ids)), classes=3, count=5, of=of, scheme=scheme
    )
    present = [
        class_ids.count(own) if of == "own" else sum(x in range(3) and x != own for x in class_ids) for own in range(3)
    ]
    assert valid.tolist() == [number > 0 for number in present]
    assert found.shape == (3, 5)
    assert not len(class_ids) or ((found >= 0).all() and (found < len(class_ids)).all())


@EVERY
def test_the_generator_decides_all(scheme):
    class_ids, cell_ids = ragged()
    options = {"classes": 5, "count": 99, "scheme": scheme}
    first, again, other = (draw(class_ids, cell_ids, **options, generator=generator(seed))[0] for seed in (0, 0, 1))
    torch.manual_seed(0)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@EVERY
def test_a_class_is_drawn_alike_whichever_classes_are_absent(scheme):
    class_ids, cell_ids = ragged(classes=3)  # of 0, 1 and 2
    options = {"classes": 4, "count": 99, "scheme": scheme}
    dense = draw(class_ids.clamp(max=2), cell_ids, **options, generator=generator())[0]
    sparse = draw(torch.tensor([0, 2, 3, 9])[class_ids.clamp(max=2)], cell_ids, **options, generator=generator())[0]
    assert torch.equal(dense[:3], sparse[[0, 2, 3]])


def test_labels_of_eight_bits_are_drawn_like_others():
    class_ids, cell_ids = ragged(classes=5)
    class_ids = class_ids.clamp(min=0)
    wide = draw(class_ids, cell_ids, classes=5, count=99, generator=generator())
    narrow = draw(class_ids.to(torch.uint8), cell_ids.to(torch.uint8), classes=5, count=99, generator=generator())
    assert torch.equal(wide[0], narrow[0])


def test_a_thousand_classes_are_drawn_at_once():
    class_ids = torch.arange(1000).repeat(3)
    found, valid = draw(class_ids, torch.zeros(3000), classes=1000, count=10)
    assert valid.all()
    assert (class_ids[found] == torch.arange(1000)[:, None]).all()


@EVERY
@pytest.mark.parametrize("of", ["own", "others"])
def test_nothing_waits_for_the_device(of, scheme):
    """Tensors without data raise when a value is asked for."""
    class_ids = torch.empty(100, dtype=torch.long, device="meta")
    found, valid = draw(class_ids, class_ids, classes=3, count=9, of=of, scheme=scheme, mirrors=class_ids)
    assert (found.shape, valid.shape, found.device.type) == ((3, 9), (3,), "meta")


def test_cells_order_the_list_whatever_the_order_of_the_pixels():
    """Two strata of two cells, however the pixels lie: each gets half of the draws."""
    cell_ids = torch.randperm(1000, generator=generator()) % 2
    found, _ = draw(torch.zeros(1000), cell_ids, classes=1, count=100, generator=generator())
    assert cell_ids[found].sum() == 50


@EVERY
def test_any_run_of_draws_is_spread_over_the_strata(scheme):
    (found,) = positions(128 * 50, 3, 1, scheme=scheme, strata=128, count=64 * 512)
    counts = F.one_hot(found.unflatten(1, (64, 512)) // 50, 128).sum(2)  # of each stratum in each run of 512
    fewest, most = counts.min().item(), counts.max().item()  # 4 on average
    assert (fewest >= 2 and most <= 8) == (scheme != "naive")


# Grids and mirrors.


@pytest.mark.parametrize(("size", "grid"), [((8, 12), (4, 4)), ((7, 5), (4, 4)), ((6, 9, 5), (4, 4, 2)), ((2,), (4,))])
def test_cells_are_blocks_of_their_image(size, grid):
    cells = grid_cells(3, size, grid)
    assert cells.shape == (3, *size)
    number = math.prod(grid)
    assert [image.flatten().div(number, rounding_mode="floor").unique().tolist() for image in cells] == [[0], [1], [2]]
    for axis, (length, along) in enumerate(zip(size, grid, strict=True)):
        line = cells[0].movedim(axis, 0).reshape(length, -1)[:, 0]
        counts = line.unique(return_counts=True)[1]
        assert len(counts) == min(length, along)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("size", "grid"), [((8, 12), (4, 4)), ((7, 5), (4, 3)), ((6, 9, 5), (4, 4, 2)), ((2,), (4,))])
def test_opposite_of_opposite_is_the_pixel_and_both_lie_about_the_centre_of_their_cell(size, grid):
    cells, mirrors = (make(2, size, grid).flatten() for make in (grid_cells, cell_mirrors))
    pixel = torch.arange(len(cells))
    assert torch.equal(mirrors[mirrors], pixel)
    assert torch.equal(cells[mirrors], cells)
    places = torch.stack(torch.unravel_index(pixel, (2, *size)), 1).double()
    for cell in cells.unique():
        inside = cells == cell
        assert torch.equal((places + places[mirrors])[inside] / 2, places[inside].mean(0).expand(inside.sum(), -1))


def test_pairs_by_place_are_mirror_images_where_both_are_of_the_class():
    label = (torch.arange(64).view(1, 8, 8) % 8 > 2).long().flatten()
    cells, mirrors = (make(1, (8, 8), (2, 2)).flatten() for make in (grid_cells, cell_mirrors))
    found, _ = draw(label, cells, classes=2, count=1000, scheme="sag", mirrors=mirrors, generator=generator())
    first, second = found.unflatten(1, (-1, 2)).unbind(2)
    mirrored = label[mirrors[first]] == label[first]
    assert torch.equal(second[mirrored], mirrors[first][mirrored])
    assert (label[mirrors[second]] != label[second])[~mirrored].all()  # who has no mirror image is among its like
    assert 0 < mirrored.sum() < mirrored.numel()


# What is refused, and what is shown.


@pytest.mark.parametrize(("options", "message"), [
    ({"scheme": "sgg"}, "there is no scheme 'sgg'; did you mean"),
    ({"of": "other"}, "there is no value of 'of' 'other'"),
    ({"count": 0}, "count = 0: expected 1 or more"),
    ({"strata": 0}, "strata = 0: expected 1 or more"),
    ({"classes": 0}, "classes = 0"),
])  # fmt: skip
def test_words_and_numbers_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        draw(torch.zeros(4), torch.zeros(4), **{"classes": 2, "count": 3, **options})


@pytest.mark.parametrize("options", [
    {"cell_ids": torch.zeros(5)}, {"cell_ids": torch.zeros(2, 2)}, {"mirrors": torch.zeros(3).long(), "scheme": "sag"},
])  # fmt: skip
def test_vectors_of_different_length_are_refused(options):
    with pytest.raises(GeometryError, match="expected two vectors of one length"):
        draw(torch.zeros(4), options.pop("cell_ids", torch.zeros(4)), classes=2, count=4, **options)


@pytest.mark.parametrize("make", [grid_cells, cell_mirrors])
@pytest.mark.parametrize(("size", "grid"), [((8, 8), (4,)), ((8, 0), (4, 4)), ((8, 8), (4, 0))])
def test_a_grid_that_does_not_fit_is_refused(make, size, grid):
    with pytest.raises(GeometryError, match="expected one number per axis"):
        make(1, size, grid)


def test_the_example_of_the_page_runs(capsys):
    page = (Path(__file__).parents[2] / "docs/sampling.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block, "sampling.md", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([3, 256, 16]) torch.Size([3, 8, 512, 16])\n"


def test_the_example_of_the_module_runs():
    found = doctest.testmod(sampling)
    assert found.attempted > 5
    assert found.failed == 0


# From each image


@EVERY
def test_as_many_valid_pixels_are_drawn_from_each_image(scheme):
    valid = torch.rand(4, 8, 6, generator=generator()) > 0.5
    valid[2] = False
    pixels, found = draw_from_each(valid, 50, (4, 3), scheme=scheme, generator=generator())
    assert pixels.shape == (4, 50)
    assert found.tolist() == [True, True, False, True]
    assert valid.flatten()[pixels[found]].all()
    assert (pixels // 48 == torch.arange(4)[:, None])[found].all()


def test_draws_from_an_image_are_spread_over_its_cells():
    pixels, _ = draw_from_each(torch.ones(2, 8, 8, dtype=torch.bool), 16, (4, 4), generator=generator())
    cells = grid_cells(2, (8, 8), (4, 4)).flatten()[pixels]
    assert cells.sort(1).values.tolist() == [list(range(16)), list(range(16, 32))]
