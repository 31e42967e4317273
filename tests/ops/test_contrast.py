"""Contrast, distillation and collapse against closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from semivox.ops.contrast import (
    class_contrast,
    class_means,
    effective_rank,
    group_contrast,
    info_nce,
    mean_variance,
    members,
    pairwise_distillation,
    prototype_distance,
    standardised,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def test_two_orthonormal_rows_give_twice_log_one_plus_e_to_the_minus_two():
    loss = info_nce(torch.eye(2), torch.eye(2), 0.5)
    assert loss.item() == pytest.approx(2 * math.log(1 + math.exp(-2)), abs=1e-6)
    assert loss.item() == pytest.approx(0.253856, abs=1e-6)


def test_info_nce_is_symmetric_and_bounded_below():
    h_t, h_s = unit(6, 4), unit(6, 4, seed=1)
    torch.testing.assert_close(info_nce(h_t, h_s, 0.5), info_nce(h_s, h_t, 0.5))
    least = 2 * math.log(1 + 5 * math.exp(-2 / 0.5))  # every positive at cosine 1, every negative at -1
    assert info_nce(h_t, h_s, 0.5) > info_nce(h_s, h_s, 0.5) > least


def test_info_nce_rises_when_two_slices_become_one():
    h = unit(6, 4)
    same = h.clone()
    same[1] = same[0]
    assert info_nce(same, same, 0.5) > info_nce(h, h, 0.5)
    assert info_nce(h[:1].expand(6, 4), h[:1].expand(6, 4), 0.5).item() == pytest.approx(2 * math.log(6))


@pytest.mark.parametrize("kept", [[0, 2, 3, 5], [1, 4], [2], []])
def test_info_nce_of_the_rows_that_count_is_that_of_these_alone_and_the_others_get_no_gradient(kept):
    h_t, h_s = unit(2, 6, 4), unit(2, 6, 4, seed=1).requires_grad_()
    valid = torch.zeros(6, dtype=torch.bool)
    valid[kept] = True
    loss = info_nce(h_t, h_s, 0.1, valid)
    expected = info_nce(h_t[:, kept], h_s[:, kept], 0.1) if len(kept) > 1 else torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, h_s)
    assert gradient.isfinite().all()
    assert not gradient[:, ~valid].any()
    assert bool(gradient.any()) == (len(kept) > 1)


def test_info_nce_compares_each_row_with_its_own_and_averages_leading_axes():
    h_t, h_s = unit(2, 5, 4), unit(2, 5, 4, seed=1)
    mean = (info_nce(h_t[0], h_s[0], 0.5) + info_nce(h_t[1], h_s[1], 0.5)) / 2
    torch.testing.assert_close(info_nce(h_t, h_s, 0.5), mean)
    # By the definition, one row at a time.
    similarity = (h_t[0] @ h_s[0].T / 0.5).exp()
    rows = [
        -math.log(similarity[i, i] / similarity[i].sum()) - math.log(similarity[i, i] / similarity[:, i].sum())
        for i in range(5)
    ]
    assert info_nce(h_t[0], h_s[0], 0.5).item() == pytest.approx(sum(rows) / 5)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_slices_give_an_exact_zero_with_a_zero_gradient(rows):
    h = torch.randn(2, rows, 3, requires_grad=True)
    loss = info_nce(h.detach(), h, 0.5)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(h.grad, torch.zeros_like(h))


def test_distillation_of_two_orthonormal_voxels_and_of_245_equal_ones():
    assert pairwise_distillation(torch.eye(2)[None], torch.eye(2)[None]).item() == pytest.approx(0.313262, abs=1e-6)
    same = torch.ones(2, 245, 3)
    assert pairwise_distillation(same, same).item() == pytest.approx(5.501258, abs=1e-6)
    total = pairwise_distillation(same, same, reduction="sum").item()
    assert total == pytest.approx(245 * math.log(245), rel=1e-6)


def test_distillation_ignores_positive_scale_and_a_joint_permutation():
    v_s, v_t = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    loss, order = pairwise_distillation(v_s, v_t), torch.randperm(9)
    torch.testing.assert_close(pairwise_distillation(3 * v_s, 0.2 * v_t), loss)
    torch.testing.assert_close(pairwise_distillation(v_s[:, order], v_t[:, order]), loss)
    assert pairwise_distillation(v_s[:, order], v_t) != loss


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_positions_that_are_not_valid_are_dropped_as_rows_and_as_columns(reduction):
    v_s, v_t = torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    valid = torch.zeros(2, 9, dtype=torch.bool)
    valid[0, :5] = True
    kept = pairwise_distillation(v_s[:1, :5], v_t[:1, :5], reduction=reduction)
    torch.testing.assert_close(pairwise_distillation(v_s, v_t, valid, reduction=reduction), kept)
    assert pairwise_distillation(v_s, v_t, torch.zeros_like(valid), reduction=reduction).item() == 0


def test_gradients_agree_with_finite_differences():
    h_t, h_s = unit(2, 4, 3), unit(2, 4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: info_nce(h_t, x, 0.5), h_s)
    valid = torch.tensor([[True, True, False, True], [True, False, True, True]])
    assert torch.autograd.gradcheck(lambda x: pairwise_distillation(x, h_t, valid), h_s)


def test_similarities_are_single_precision_under_autocast():
    h_t, h_s = unit(8, 4).float(), unit(8, 4, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(h_t, h_s, 0.1), pairwise_distillation(h_s[None], h_t[None])
    assert inside == (info_nce(h_t, h_s, 0.1), pairwise_distillation(h_s[None], h_t[None]))


def test_effective_rank_counts_directions_and_is_zero_at_collapse():
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(cross).item() == pytest.approx(2)
    assert effective_rank(F.pad(cross, (0, 30))).item() == pytest.approx(2)  # N < D: the other Gram matrix
    assert effective_rank(cross * torch.tensor([1.0, 0.0])).item() == pytest.approx(1)
    assert effective_rank(torch.randn(1, 20).expand(50, 20)).item() == 0
    # Entropy of the shares 3/4 and 1/4.
    assert effective_rank(cross * torch.tensor([3.0, 1.0])).item() == pytest.approx(math.exp(0.562335), rel=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_a_rank_that_is_not_defined_is_no_number_and_no_error(shape, value):
    z = torch.randn(shape)
    z[1, 2] = value
    assert effective_rank(z).isnan()
    assert effective_rank(z[:0]).isnan()
    assert effective_rank(torch.zeros(shape)) == 0


def test_mean_variance_is_the_spread_of_rows():
    assert mean_variance(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).item() == 0.5
    assert mean_variance(torch.zeros(0, 4)).isnan()


# Pixels and prototypes of classes


def test_the_mean_of_each_class_is_by_class_and_zero_of_an_absent_one():
    features = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0], [7.0, 7.0]])
    means = class_means(features, torch.tensor([2, 2, 0, 3]), 3)  # 3 is no class
    assert means.tolist() == [[5, 5], [0, 0], [2, 1]]
    assert class_means(features, torch.full((4,), 3), 3).tolist() == [[0, 0]] * 3


def test_the_means_of_several_images_are_each_images_own():
    features, class_ids = torch.rand(2, 5, 3), torch.tensor([[0, 0, 1, 2, 9], [1, 1, 1, 9, 0]])
    each = torch.stack([class_means(f, ids, 3) for f, ids in zip(features, class_ids, strict=True)])
    assert torch.equal(class_means(features, class_ids, 3), each)
    assert members(class_ids, 3).sum(2).tolist() == [[2, 1, 1], [1, 3, 0]]


def test_means_of_many_pixels_are_single_precision_under_autocast():
    features, class_ids = torch.rand(5000, 4), torch.arange(5000) % 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = class_means(features, class_ids, 2)
    torch.testing.assert_close(inside, torch.stack([features[::2].mean(0), features[1::2].mean(0)]))
    halves = class_means(features.bfloat16(), class_ids, 2)
    torch.testing.assert_close(halves, features.bfloat16().float().reshape(-1, 2, 4).mean(0))


def drawn(queries, keys, negatives, seed=0):
    """Return queries (2, N, 5), positives (2, 5), keys (R, 5), of unit length, and drawn rows of them (2, N, M)."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randint(keys, (2, queries, negatives), generator=random)
    return unit(2, queries, 5), unit(2, 5, seed=1), unit(keys, 5, seed=2), rows


@pytest.mark.parametrize(("negatives", "value"), [(1, 0.126928), (512, 4.252653)])
@pytest.mark.parametrize("key", [[0.0, 3.0], [0.0, 0.0]], ids=["orthogonal", "zero"])
def test_a_query_at_its_prototype_with_orthogonal_or_zero_negatives(negatives, value, key):
    """T8: log(1 + n e^-2)."""
    query = torch.tensor([2.0, 0.0])
    rows = torch.zeros(1, 1, negatives, dtype=torch.int64)
    loss = class_contrast(query[None, None], query[None], torch.tensor([key]), rows, torch.tensor([True]), 0.5)
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert loss.item() == pytest.approx(math.log(1 + negatives * math.exp(-2)), rel=1e-6)


def test_contrast_is_the_mean_over_queries_then_over_valid_classes():
    q, p, k, rows = drawn(6, 9, 4)
    each = [class_contrast(q[i : i + 1], p[i : i + 1], k, rows[i : i + 1], torch.tensor([True]), 0.5) for i in (0, 1)]
    both = class_contrast(q, p, k, rows, torch.tensor([True, True]), 0.5)
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)
    torch.testing.assert_close(class_contrast(q, p, k, rows, torch.tensor([False, True]), 0.5), each[1])
    one = torch.tensor([True])
    single = [class_contrast(q[:1, i : i + 1], p[:1], k, rows[:1, i : i + 1], one, 0.5) for i in range(6)]
    torch.testing.assert_close(each[0], torch.stack(single).mean())


def test_no_valid_class_gives_an_exact_zero_with_a_zero_gradient():
    q, p, k, rows = drawn(6, 9, 4)
    q = (q * torch.tensor([1.0, 0.0])[:, None, None]).requires_grad_()  # a class without pixels may be all zero
    loss = class_contrast(q, p * 0, k * 0, rows, torch.tensor([False, False]), 0.5)
    loss.backward()
    assert loss == 0
    assert torch.equal(q.grad, torch.zeros_like(q))


def test_the_order_of_negatives_is_nothing_and_only_queries_get_a_gradient():
    """T9."""
    q, p, k, rows = drawn(6, 9, 4)
    loss = class_contrast(q, p, k, rows, torch.tensor([True, True]), 0.5)
    mixed = rows[..., torch.randperm(4)]
    torch.testing.assert_close(class_contrast(q, p, k, mixed, torch.tensor([True, True]), 0.5), loss)
    assert torch.autograd.gradcheck(
        lambda x: class_contrast(x, p, k, rows, torch.tensor([True, True]), 0.5), q.requires_grad_()
    )


def test_one_product_and_a_gather_equal_the_cosines_of_gathered_features():
    """T12."""
    q, p, k, rows = (x if x.dtype == torch.int64 else x.float() for x in drawn(256, 50, 512))
    positive = F.cosine_similarity(q, p[:, None], dim=-1)[..., None]
    negative = F.cosine_similarity(q[:, :, None], k[rows], dim=-1)
    expected = -(torch.cat([positive, negative], -1) / 0.5).log_softmax(-1)[..., 0].mean()
    found = class_contrast(q, p, k, rows, torch.tensor([True, True]), 0.5)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


# Groups of images

X, Y = [1.0, 0.0], [0.0, 1.0]


def test_groups_that_are_orthogonal_and_alike_in_two_images_have_the_loss_of_the_closed_form():
    z, found = torch.tensor([[X, Y], [X, Y]]), torch.ones(2, 2, dtype=torch.bool)
    assert group_contrast(z, z * 3, found, tau=0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    assert group_contrast(z, z, found, torch.tensor([0, 1]), tau=0.5).item() == pytest.approx(0.239545, abs=1e-6)


def test_positives_do_not_compete_and_are_averaged():
    """Anchors of group 0 have a positive that they equal and one orthogonal to them, as the negative is."""
    z = torch.tensor([[X, [0.0, 0.0]], [X, Y]])
    keys = torch.tensor([[X, [0.0, 0.0]], [Y, Y]])
    found = torch.tensor([[True, False], [True, True]])
    both = [math.log(1 + math.exp(-2)), math.log(2)]  # of image 0: its own key, and that of image 1
    group_0 = sum(both) / 2  # for the anchors of both images
    group_1 = math.log(1 + math.exp(-2) + 1)  # finds itself; the negatives are X, orthogonal, and Y, which it equals
    expected = (group_0 + group_0 + group_1) / 3
    assert group_contrast(z, keys, found, tau=0.5).item() == pytest.approx(expected)


def test_with_scans_an_image_of_the_same_scan_is_no_positive():
    z = torch.tensor([[X, Y], [X, Y], [Y, X]])
    found = torch.ones(3, 2, dtype=torch.bool)
    scans = torch.tensor([5, 5, -1])
    # Anchors of the first two have the third as their only positive, at 0, against 0, 0 and 1; and the other way round.
    expected = math.log(1 + 2 + math.exp(2))
    third = math.log(1 + 2 * math.exp(2) + 1)
    assert group_contrast(z, z, found, scans, tau=0.5).item() == pytest.approx((4 * expected + 2 * third) / 6)
    assert group_contrast(z, z, found, torch.zeros(3, dtype=torch.int64), tau=0.5).item() == 0


def test_a_group_that_is_not_found_is_neither_asked_nor_answers():
    z, found = unit(3, 4, 8), torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1]]) == 1
    other = torch.where(found[..., None], z, unit(3, 4, 8, seed=1))
    assert not torch.equal(z, other)
    assert group_contrast(z, z, found, tau=0.1) == group_contrast(other, other, found, tau=0.1)
    alone = torch.zeros_like(found)
    alone[:, 1] = True  # one group has no negative
    z.requires_grad_(True)
    loss = group_contrast(z, z, alone, tau=0.1)
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


def test_the_contrast_of_groups_has_the_gradient_of_its_formula():
    z, keys = (unit(2, 3, 4, seed=seed).double() for seed in (0, 1))
    found = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.autograd.gradcheck(lambda x: group_contrast(x, keys, found, tau=0.5), z.requires_grad_(True))


def test_standardised_columns_have_mean_0_and_variance_1_over_the_rows_that_count():
    assert standardised(torch.tensor([[1.0], [3.0]]), torch.ones(2, dtype=torch.bool)).flatten().tolist() == [-1, 1]
    x, valid = torch.randn(7, 3) + 5, torch.tensor([True, True, False, True, True, True, False])
    found = standardised(x, valid)
    torch.testing.assert_close(found[valid].mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[valid].var(0, correction=0), torch.ones(3))
    assert torch.equal(standardised(torch.where(valid[:, None], x, torch.nan), valid)[valid], found[valid])


def test_a_constant_column_and_rows_that_do_not_count_are_0_with_a_finite_gradient():
    x = torch.full((4, 2), 3.0, requires_grad=True)
    found = standardised(x, torch.tensor([True, True, True, False]))
    found.sum().backward()
    assert not found.any()
    assert x.grad.isfinite().all()
    assert not standardised(torch.ones(2, 3), torch.zeros(2, dtype=torch.bool)).any()


def test_standardised_rows_that_are_nearly_alike_are_told_apart():
    """As pooled features behind an instance norm: by their cosines they are one."""
    x = 1 + 1e-3 * torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(8, dtype=torch.bool)
    alike, apart = (F.normalize(z, dim=1) for z in (x, standardised(x, valid)))
    assert (alike @ alike.T).min() > 0.999
    assert (apart @ apart.T).min() < 0


def test_the_weighted_distance_to_a_prototype_by_hand():
    f, m = torch.tensor([[1.0, 0], [0, 2], [5, 5]]), torch.tensor([[3.0, 0], [0, 1]])
    own, one, both = torch.tensor([True, True, False]), torch.tensor([True, False]), torch.tensor([True, True])
    ones = torch.ones
    assert prototype_distance(f, ones(3), own, m, ones(2), one).item() == pytest.approx(0.5)
    assert prototype_distance(f, torch.tensor([3.0, 1, 9]), own, m, ones(2), one).item() == pytest.approx(0.25)
    weighed = prototype_distance(f, torch.tensor([3.0, 1, 9]), own, m, torch.tensor([1.0, 3]), both)
    assert weighed.item() == pytest.approx((3 * 3 + 1 * 1) / 16)  # u 3/4 1/4, v 1/4 3/4: the unlike pairs
    for nothing in (prototype_distance(f, ones(3), own & False, m, ones(2), one),
                    prototype_distance(f, ones(3), own, m, ones(2), one & False)):  # fmt: skip
        assert nothing == 0
