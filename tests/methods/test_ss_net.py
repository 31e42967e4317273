"""SS-Net: what an attack changes, and whither voxels move."""

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, run_forward, run_steps, toy_batch, toy_progress

from semivox.ops.ramps import sigmoid_rampup

(STAGE,) = all_stages("ss_net")
RAMP = sigmoid_rampup(0.5)


def make(*, dims=2, classes=2, **fields):
    """Return the method without dropout and random views."""
    net = {"dropout": 0.0, "classes": classes}
    method = make_toy_method("ss_net", dims=dims, net=net, geometry="none", intensity="none", **fields)
    freeze(method, STAGE)
    return method.train()


def step(method, batch=None, **place):
    classes = method.student.classes
    return run_forward(method, batch or toy_batch(dims=method.student.dims, classes=classes), toy_progress(**place))


def seen_by(method, batch):
    """Return the images of every forward of the net, in order."""
    images = []
    method.student.encoder.register_forward_pre_hook(lambda net, given: images.append(given[0].detach().clone()))
    step(method, batch)
    return images


@pytest.mark.parametrize(("dims", "trial", "size"), [(2, 0.039, 0.0234), (3, 0.01, 0.01)])
def test_the_attack_has_the_published_length_by_the_voxel_and_spares_padding(dims, trial, size):
    batch = toy_batch(dims=dims)
    labelled, unlabelled, tried, attacked = seen_by(make(dims=dims), batch)
    clean, valid = torch.cat([labelled, unlabelled]), torch.cat([batch.valid_l, batch.valid_u])
    for image, length in ((tried, trial), (attacked, size)):
        change = image - clean
        assert (change[:, 0][~valid] == 0).all()
        for item, held in zip(change[:, 0], valid, strict=True):
            assert item[held].square().mean().sqrt().item() == pytest.approx(length, rel=1e-3)


def test_an_attack_moves_masks_further_than_chance():
    method, batch = make(epsilon=0.3, xi=0.1), toy_batch(dims=2)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(10)], stage=STAGE)
    labelled, unlabelled, _, attacked = seen_by(method, batch)
    clean = torch.cat([labelled, unlabelled])
    change = attacked - clean
    p, moved, chance = (method.predict(x) for x in (clean, attacked, clean + change.flip(-1).roll(1, 0)))
    assert (moved - p).square().mean() > 1.5 * (chance - p).square().mean()


def test_no_attack_changes_nothing():
    assert step(make(epsilon=0)).losses["smoothness"].item() == pytest.approx(0, abs=1e-6)


def test_the_attacked_mask_learns_and_what_it_shall_be_stands_still():
    method = make()
    smooth = step(method).losses["smoothness"]
    gradient = torch.autograd.grad(smooth, method.student.decoders[0].out.weight)[0]
    assert gradient.abs().sum() > 0


def test_voxels_of_a_class_that_the_net_has_not_found_have_no_prototype():
    method = make()
    with torch.no_grad():
        method.student.decoders[0].out.bias[1] = -1e4  # all background
    terms = step(method)
    assert terms.shown["candidates"] == 0
    assert terms.losses["separation"] == 0


def test_a_class_of_a_single_embedding_has_distance_0_and_an_opposite_one_2_by_hand():
    method, batch = make(), toy_batch(dims=2, unlabelled=0, padded=False)
    with torch.no_grad():
        method.student.decoders[0].out.bias[1] = 1e4  # all foreground, right where it is
        for part in (method.projector, method.predictor):
            for layer in part:
                if isinstance(layer, torch.nn.Linear):
                    layer.weight.zero_()
                    layer.bias.fill_(1.0)
    assert step(method, batch).losses["separation"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        method.predictor[-1].bias.fill_(-1.0)
    assert step(method, batch).losses["separation"].item() == pytest.approx(0.1 * RAMP * 2, rel=1e-5)


def test_labelled_voxels_go_by_their_label_and_unlabelled_ones_by_what_the_net_finds():
    method, batch = make(), toy_batch(dims=2)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(10)], stage=STAGE)
    both = step(method, batch).losses["separation"].item()
    batch.image_u, batch.valid_u = None, None
    assert 0 < step(method, batch).losses["separation"].item() < both


def test_numbers_of_voxels_and_prototypes_are_those_asked_for():
    method = make(voxels=20, prototypes=3)
    calls = []
    for part in (method.predictor, method.scores_prototypes[0]):
        part.register_forward_pre_hook(lambda part, given: calls.append(len(given[0])))
    step(method)
    assert calls[:2] == [20, 20]
    assert calls[-1] == 3


def test_weights_scale_their_terms_and_ramp_up():
    found, more = step(make()).losses, step(make(weight_smoothness=2, weight_separation=0.3)).losses
    torch.testing.assert_close(more["smoothness"], 2 * found["smoothness"])
    torch.testing.assert_close(more["separation"], 3 * found["separation"])
    assert step(make(), step=0).losses["smoothness"] < 0.1 * found["smoothness"]
