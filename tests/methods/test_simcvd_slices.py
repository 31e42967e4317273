"""SimCVD's slices and heads: what the contrast reads, how it is pooled, and that the teacher's heads follow."""

import math
from contextlib import contextmanager

import pytest
import torch
from crops import (
    SIZES,
    all_stages,
    make_toy_method,
    make_toy_net,
    run_forward,
    run_steps,
    spied,
    toy_batch,
    toy_progress,
)

from semivox.methods.simcvd import Config, SimCVD
from semivox.ops.contrast import info_nce

PLAIN = {"geometry": "none", "intensity": "none"}
QUIET = PLAIN | {"noise": 0.0, "alpha_dropout": 0.0}


@pytest.mark.parametrize("kind", ["maps", "paper"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_contrast_reads_the_slices_of_the_map_and_in_the_paper_of_the_clean_crop_plus_the_map(axis, kind):
    method = make_toy_method("simcvd", net={"channels": 2, "classes": 3, "dropout": 0.0}, slices=kind, **PLAIN)
    batch = toy_batch(channels=2, classes=3)
    batch.slice_axis = axis
    with spied(method.head_sdm) as branch, spied(method.head_slices) as heads:
        run_forward(method, batch, toy_progress())
    sdm = branch[1][1].tanh()  # (M, F, X, Y, Z), of the unlabelled forward
    crop = batch.image_u.mean(1, keepdim=True) if kind == "paper" else 0
    maps = (crop + sdm) * batch.valid_u.unsqueeze(1)
    slices = [[maps[m, k].select(axis, j) for m in range(4) for j in range(SIZES[3][axis])] for k in range(2)]
    torch.testing.assert_close(heads[0][0], torch.stack([torch.stack(row) for row in slices]))


@pytest.mark.parametrize("drawn", [None, 60])
def test_slices_without_a_valid_voxel_are_compared_with_none(drawn):
    """The first two slices of axis 0 are padding: of 4 volumes, 8 of 64."""
    method = make_toy_method("simcvd", contrast_slices=drawn, **QUIET)
    batch = toy_batch()
    batch.slice_axis = 0
    with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
        loss = run_forward(method, batch, toy_progress()).losses["contrast"]
    inputs, h_s, h_t = student[0][0], student[0][1], teacher[0][1]
    there = inputs[0].flatten(1).any(1)
    assert (there.sum(), len(there)) == (56, drawn or 64)  # a draw takes padding only where nothing else is left
    ramp = math.exp(-5 * (1 - toy_progress().fraction) ** 2)
    expected = ramp * method.config.weight_contrast * info_nce(h_t[:, there], h_s[:, there], method.config.tau)
    torch.testing.assert_close(loss, expected)


def test_the_teachers_maps_are_its_own_on_the_same_clean_crop():
    method = make_toy_method("simcvd", slices="paper", **PLAIN)
    batch = toy_batch(padded=False)
    with spied(method.teacher_sdm) as branch, spied(method.teacher_slices) as heads:
        run_forward(method, batch, toy_progress())
    maps = batch.image_u + branch[0][1].tanh()
    torch.testing.assert_close(heads[0][0][0], maps[:, 0].movedim(3, 1).flatten(0, 1))


def test_another_volumes_map_is_noticed_more_where_no_crop_tells_the_slices_apart():
    """The teacher's maps change places between volumes; of random weights, which know no volume well."""
    rises = {}
    for kind in ("maps", "paper"):
        method = make_toy_method("simcvd", slices=kind, alpha_dropout=0.0, net={"dropout": 0.0}, **PLAIN)
        batch, losses = toy_batch(padded=False), []
        for swapped in (False, True):
            with torch.no_grad(), exchanged(method.teacher_sdm, swapped):
                losses.append(run_forward(method, batch, toy_progress()).losses["contrast"].item())
        rises[kind] = losses[1] - losses[0]
    assert rises["maps"] > 1.5 * rises["paper"]


@contextmanager
def exchanged(module, swapped):
    """Let a module give every volume another one's result."""
    handle = module.register_forward_hook(lambda _, given, result: result.roll(1, 0) if swapped else result)
    try:
        yield
    finally:
        handle.remove()


def test_each_classs_contrast_counts_alike():
    method = make_toy_method("simcvd", net={"classes": 3}, ramp="consistency")
    with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
        loss = run_forward(method, toy_batch(classes=3), toy_progress()).losses["contrast"]
    each = [info_nce(teacher[0][1][k], student[0][1][k], 0.5) for k in range(2)]
    torch.testing.assert_close(loss, 0.5 * sum(each) / 2)


def test_in_2d_every_image_is_a_slice_and_one_alone_gives_an_exact_zero():
    method = make_toy_method("simcvd", dims=2)
    with spied(method.head_slices) as heads:
        run_forward(method, toy_batch(dims=2, unlabelled=5), toy_progress())
    assert heads[0][0].shape == (1, 5, *SIZES[2])
    alone = run_forward(method, toy_batch(dims=2, unlabelled=1), toy_progress()).losses
    assert alone["contrast"] == 0
    assert alone["distillation"] > 0


def test_the_contrast_may_draw_fewer_slices_the_same_for_both_views():
    fields = QUIET | {"contrast_slices": 6}
    method = make_toy_method("simcvd", net={"dropout": 0.0}, **fields)
    with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
        run_forward(method, toy_batch(), toy_progress())
    assert student[0][0].shape[1] == 6
    assert torch.equal(student[0][0], teacher[0][0])


@pytest.mark.parametrize(
    ("patch", "pool", "expected"),
    [
        ((112, 112, 80), None, (128, 128)),
        ((56, 112, 80), None, (64, 128)),
        ((112, 112, 80), 32, (32, 32)),
        (None, None, (128, 128)),
    ],
)
def test_slices_are_pooled_in_proportion_to_the_patch(patch, pool, expected):
    method = SimCVD(make_toy_net(patch=patch), Config(pool=pool, head_sizes=(4, 2)))
    assert method.head_slices.pool == expected


def test_average_pooling_has_a_deterministic_gradient():
    method = make_toy_method("simcvd", **QUIET)
    with spied(method.head_slices) as heads, spied(method.head_slices.layers) as layers:
        terms = run_forward(method, toy_batch(), toy_progress())
    judge = torch.nn.functional.adaptive_avg_pool2d(heads[0][0], method.head_slices.pool)
    torch.testing.assert_close(layers[0][0], judge.flatten(-2))
    nodes, seen = [terms.losses["contrast"].grad_fn], set()
    while nodes:
        node = nodes.pop()
        seen.add(node)
        nodes += [before for before, _ in node.next_functions if before is not None and before not in seen]
    assert {"Convolution" in type(node).__name__ for node in seen} == {True, False}
    assert not [node for node in seen if "Adaptive" in type(node).__name__]  # torch has none for it on a GPU


def test_the_teachers_heads_follow_too():
    method = make_toy_method("simcvd", weight_contrast=5.0)
    (stage,) = all_stages("simcvd")
    run_steps(method, [toy_batch()], stage=stage)
    for student, teacher in (("head_slices", "teacher_slices"), ("head_sdm", "teacher_sdm"), ("student", "teacher")):
        pairs = zip(getattr(method, student).parameters(), getattr(method, teacher).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)  # step 0 of the warm start
    fixed = make_toy_method("simcvd", warm_start=False, ema_decay=0.9, lr=0.1)
    before = fixed.head_slices.layers[0].weight.detach().clone()
    run_steps(fixed, [toy_batch()], stage=stage)
    after = fixed.head_slices.layers[0].weight
    torch.testing.assert_close(fixed.teacher_slices.layers[0].weight, 0.9 * before + 0.1 * after)
