"""Contrast of pixels with the prototypes of their classes: who is drawn, who answers, what is remembered."""

import math
from dataclasses import replace

import pytest
import torch

from semivox.ops.anatomy import Draws, Keys, Pixels, anatomical_contrast
from semivox.ops.queue import ClassBanks
from semivox.ops.sampling import cell_mirrors, grid_cells

ANCHORS, NEGATIVES = 8, 5
DRAWS = Draws("sg", ANCHORS, NEGATIVES, "bank", "paper", 0.5)
ORTHOGONAL = math.log(1 + NEGATIVES * math.exp(-2))  # a query at its prototype, negatives orthogonal to it

every_scheme = pytest.mark.parametrize("scheme", ["naive", "sg", "sag"])


def make_pixels(label, student, teacher=None, **others):
    """Return pixels (N,) that take part as everything, in cells of four."""
    teacher = student.detach() if teacher is None else teacher
    roles = {"anchors": label, "prototypes": label, "keys": label, "mirrors": None} | others
    return Pixels(student=student, teacher=teacher, cells=torch.arange(len(label)) // 4, **roles)


def contrast(pixels, banks, draws=DRAWS, *, seed=0, embed_s=lambda x: x, embed_t=lambda x: x):
    generator = torch.Generator().manual_seed(seed)
    return anatomical_contrast(pixels, banks, draws, generator, embed_s=embed_s, embed_t=embed_t)


def filled(classes, features):
    """Return banks that hold `features` {class: (n, D)}."""
    banks = ClassBanks(classes, 16, next(iter(features.values())).shape[1])
    for k, rows in features.items():
        places = torch.zeros(classes, len(rows), dtype=torch.bool)
        places[k] = True
        banks.push(rows.expand(classes, -1, -1), torch.arange(len(rows)).expand(classes, -1), places)
    return banks


@pytest.fixture
def label():
    return torch.randint(3, (60,), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def features():
    return torch.randn(60, 6, generator=torch.Generator().manual_seed(1))


# Who is drawn


@every_scheme
def test_queries_are_students_of_the_anchors_of_their_class(scheme, label):
    student = torch.arange(60.0)[:, None]
    anchors = torch.where(torch.arange(60) % 2 == 0, label, 3)
    found = contrast(make_pixels(label, student, anchors=anchors), ClassBanks(3, 16, 1), replace(DRAWS, scheme=scheme))
    drawn = found.queries[..., 0].long()
    assert drawn.shape == (3, ANCHORS)
    assert (anchors[drawn] == torch.arange(3)[:, None]).all()
    assert found.valid.all()


@every_scheme
def test_the_step_remembers_teachers_of_the_keys_of_each_class_with_their_cells(scheme, label):
    teacher = torch.arange(60.0)[:, None]
    keys = torch.where(torch.arange(60) % 2 == 0, label, 3)
    keys[keys == 1] = 3  # a class without keys
    pixels = make_pixels(label, -teacher, teacher, keys=keys)
    banks = ClassBanks(3, 16, 1)
    found = contrast(pixels, banks, replace(DRAWS, scheme=scheme))
    assert banks.written.tolist() == [0, 0, 0]  # not before the step is done
    found.keys.push(banks)
    assert banks.written.tolist() == [ANCHORS, 0, ANCHORS]
    for k in (0, 2):
        rows = banks.rows[k, :ANCHORS, 0].long()
        assert (keys[rows] == k).all()
        assert torch.equal(banks.cells[k, :ANCHORS], pixels.cells[rows])


def test_the_positive_is_the_embedding_of_the_mean_teacher_of_the_prototypes(label, features):
    """Not of the anchors, nor of all pixels of the class."""
    prototypes = torch.where(torch.arange(60) < 30, label, 3)
    given = []
    contrast(
        make_pixels(label, -features, features, prototypes=prototypes),
        ClassBanks(3, 16, 6),
        embed_t=lambda x: given.append(x) or x,
    )
    for k in range(3):
        torch.testing.assert_close(given[0][k], features[prototypes == k].mean(0))


def test_only_drawn_pixels_are_embedded(label, features):
    asked, answered = [], []
    banks = filled(3, {0: features[:4], 1: features[4:8]})
    pixels = make_pixels(label.repeat(50), features.repeat(50, 1))
    contrast(pixels, banks, embed_s=lambda x: asked.append(x) or x, embed_t=lambda x: answered.append(x) or x)
    assert [x.shape for x in asked] == [(3, ANCHORS, 6)]
    assert sum(x.shape[:-1].numel() for x in answered) == 3 + 3 * ANCHORS  # prototypes, and what is remembered


def test_pairs_of_sag_lie_opposite_in_their_cell_when_mirrored_in_space():
    label = torch.zeros(8, 8, dtype=torch.int64)
    label[:, 4:] = 1  # cells are whole, so that every mirror image is of the class
    student, cells = torch.arange(64.0)[:, None], grid_cells(1, (8, 8), (2, 2)).flatten()
    mirrors = cell_mirrors(1, (8, 8), (2, 2)).flatten()
    pixels = make_pixels(label.flatten(), student, mirrors=mirrors)._replace(cells=cells)
    found = contrast(pixels, ClassBanks(2, 16, 1), replace(DRAWS, scheme="sag"))
    for drawn in (found.queries[..., 0].long(), found.keys.features[..., 0].long()):
        assert torch.equal(mirrors[drawn[:, ::2]], drawn[:, 1::2])


def test_a_generator_decides_all_draws(label, features):
    pixels = make_pixels(label, features)
    first, again, other = (contrast(pixels, ClassBanks(3, 16, 6), seed=seed) for seed in (0, 0, 1))
    assert first.loss == again.loss != other.loss
    assert torch.equal(first.keys.features, again.keys.features)


# Who answers


@every_scheme
@pytest.mark.parametrize("source", ["bank", "batch"])
def test_no_negative_of_a_class_is_of_that_class(scheme, source):
    """T10: one feature a class, at right angles; a negative of the own class would be at the query itself."""
    label = torch.arange(3).repeat_interleave(20)
    pixels, banks = make_pixels(label, torch.eye(3)[label]), ClassBanks(3, 16, 3)
    for _ in range(4):
        found = contrast(pixels, banks, replace(DRAWS, scheme=scheme, source=source))
        assert found.loss.item() == pytest.approx(ORTHOGONAL, rel=1e-5)
        found.keys.push(banks)


def opposite(label, kinds=3):
    """Return pixels of orthonormal features, and the same negated."""
    return make_pixels(label, torch.eye(kinds)[label]), -torch.eye(kinds)


def test_negatives_are_the_batchs_until_two_banks_hold_features_then_the_banks(label):
    pixels, far = opposite(label)
    assert contrast(pixels, filled(3, {1: far[:1]})).loss.item() == pytest.approx(ORTHOGONAL, rel=1e-5)
    loss = contrast(pixels, filled(3, {1: far[:1], 2: far[:1]})).loss  # all they hold is the opposite of class 0
    away = math.log(1 + NEGATIVES * math.exp(-4))
    assert loss.item() == pytest.approx((away + 2 * ORTHOGONAL) / 3, rel=1e-5)


def test_negatives_of_the_batch_are_no_banks(label):
    pixels, far = opposite(label)
    banks, draws = filled(3, {1: far[:1], 2: far[:1]}), replace(DRAWS, source="batch")
    assert contrast(pixels, banks, draws).loss.item() == pytest.approx(ORTHOGONAL, rel=1e-5)


def test_every_other_class_answers_alike_from_banks_and_by_its_pixels_from_the_batch():
    """Class 1 is rare: a tenth of the pixels that are not of class 0."""
    label = torch.cat([torch.zeros(20), torch.ones(10), torch.full((90,), 2)]).long()
    student, draws = torch.eye(3)[label], replace(DRAWS, anchors=400)
    banks = ClassBanks(3, 400, 3)
    for source, part in (("batch", 0.1), ("bank", 0.5)):
        # Keys of class 1 lie opposite to class 0: by them alone is its loss less than of orthogonal ones.
        teacher = torch.where((label == 1)[:, None], torch.tensor([-1.0, 0, 0]), student)
        roles = {"anchors": torch.where(label == 0, 0, 3), "prototypes": torch.where(label == 1, 3, label)}
        pixels = make_pixels(label, student, teacher, **roles)
        found = contrast(pixels, banks, replace(draws, source=source, negatives=1))
        expected = part * math.log(1 + math.exp(-4)) + (1 - part) * math.log(1 + math.exp(-2))
        assert found.loss.item() == pytest.approx(expected, rel=0.03)
        found.keys.push(banks)


def test_released_negatives_are_of_the_classs_own_bank(label):
    pixels, far = opposite(label)
    found = contrast(pixels, filled(3, {0: far[:1], 1: far[1:2]}), replace(DRAWS, rule="released"))
    away = math.log(1 + NEGATIVES * math.exp(-4))
    assert found.loss.item() == pytest.approx(away, rel=1e-5)  # each at the opposite of itself
    assert found.valid.tolist() == [True, True, False]


# Absent classes


def test_labels_0_2_3_have_the_loss_of_0_1_2():
    """T11: released, the classes behind an absent one are compared with the wrong bank."""
    random = torch.Generator().manual_seed(0)
    names = torch.tensor([0, 2, 3])
    banks = {"gap": ClassBanks(4, 16, 6), "dense": ClassBanks(4, 16, 6)}
    for scheme in ("naive", "sg", "sag") * 2:
        dense = torch.randint(3, (60,), generator=random)
        student, teacher = (torch.randn(60, 6, generator=random) for _ in range(2))
        draws = replace(DRAWS, scheme=scheme)
        found = {
            name: contrast(make_pixels(label, student, teacher), banks[name], draws)
            for name, label in (("gap", names[dense]), ("dense", dense))
        }
        torch.testing.assert_close(found["gap"].loss, found["dense"].loss, rtol=1e-6, atol=0)
        assert torch.equal(found["gap"].queries[names], found["dense"].queries[:3])
        assert found["gap"].valid.tolist() == [True, False, True, True]
        for name in banks:
            found[name].keys.push(banks[name])
        assert torch.equal(banks["gap"].rows[names], banks["dense"].rows[:3])


def test_an_absent_class_is_no_part_of_the_mean(label):
    pixels, _ = opposite(label)
    found = contrast(pixels, ClassBanks(5, 16, 3))
    assert found.loss.item() == pytest.approx(ORTHOGONAL, rel=1e-5)
    assert found.valid.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("present", [0, 2, 3])
def test_a_batch_of_one_class_or_none_gives_an_exact_zero_until_another_is_remembered(present, features):
    student = features.clone().requires_grad_()
    pixels, banks = make_pixels(torch.full((60,), present), student), ClassBanks(3, 16, 6)
    found = contrast(pixels, banks)
    (gradient,) = torch.autograd.grad(found.loss, student)
    assert found.loss == 0
    assert not gradient.any()
    assert not found.valid.any()
    found.keys.push(banks)
    assert banks.written.tolist() == [ANCHORS * (k == present) for k in range(3)]
    others = {k: features[4 * k : 4 * k + 4] for k in (0, 1)}
    assert contrast(pixels, filled(3, others)).valid.tolist() == [k == present for k in range(3)]


def test_gradients_reach_the_anchors_alone(label, features):
    student = features.clone().requires_grad_()
    anchors = torch.where(torch.arange(60) < 30, label, 3)
    contrast(make_pixels(label, student, anchors=anchors), ClassBanks(3, 16, 6)).loss.backward()
    moved = student.grad.abs().sum(1) > 0
    assert moved.any()
    assert not moved[30:].any()


def test_keys_go_to_their_own_bank_whatever_the_others_hold():
    keys = Keys(torch.ones(2, 3, 4), torch.arange(6).reshape(2, 3), torch.tensor([[True] * 3, [False] * 3]))
    banks = ClassBanks(2, 2, 4)
    keys.push(banks)
    assert banks.written.tolist() == [3, 0]
    assert banks.cells.tolist() == [[2, 1], [0, 0]]
    assert not banks.rows[1].any()
