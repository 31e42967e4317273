"""DTC: a mask, a distance map, and the mask that the map stands for."""

import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, toy_batch, toy_progress

from semivox.ops.ramps import sigmoid_rampup

(STAGE,) = all_stages("dtc")
RAMP = sigmoid_rampup(0.5)


def losses(p, s, batch=None, **fields):
    """Return the losses of heads that give the same at every voxel.

    Args:
        p: probability of every class.
        s: signed distance to every foreground class.
        batch: by default two labelled and four unlabelled slices.
        **fields: of the config.
    """
    fields = {"geometry": "none", "intensity": "none"} | fields
    method = make_toy_method("dtc", dims=2, net={"classes": len(p)}, **fields)

    def heads(image):
        shape = len(image), -1, *image.shape[2:]
        return tuple(torch.tensor(x).reshape(1, -1, 1, 1).expand(shape) for x in ([math.log(x) for x in p], s))

    method._heads = heads
    found = run_forward(method, batch or toy_batch(dims=2, classes=len(p)), toy_progress()).losses
    return {name: loss.item() for name, loss in found.items()}


def test_the_masks_of_two_heads_by_hand():
    deep, border = losses((0.75, 0.25), (-1.0,)), losses((0.75, 0.25), (0.0,))
    assert deep["consistency"] == pytest.approx(RAMP * 0.75**2, rel=1e-5)  # 1 - 1/4
    assert border["consistency"] == pytest.approx(RAMP * 0.25**2, rel=1e-5)  # 1/2 - 1/4
    assert losses((0.5, 0.5), (0.0,))["consistency"] == pytest.approx(0, abs=1e-9)


def test_every_foreground_class_has_its_own_map_by_hand():
    found = losses((0.5, 0.25, 0.25), (-1.0, 1.0))
    assert found["consistency"] == pytest.approx(RAMP * (0.75**2 + 0.25**2) / 2, rel=1e-5)


def test_a_slope_says_how_hard_the_mask_is():
    found = losses((0.75, 0.25), (-0.5,), slope=2 * math.log(3))  # a mask of 3/4
    assert found["consistency"] == pytest.approx(RAMP * 0.5**2, rel=1e-5)


@pytest.mark.parametrize("empty", [0, 1])
def test_a_crop_without_foreground_lies_outside_or_as_released_on_the_boundary(empty):
    batch = toy_batch(dims=2)
    batch.label_l = torch.zeros_like(batch.label_l)
    batch.targets_l = {"distances": torch.zeros_like(batch.targets_l["distances"])}
    found = losses((0.75, 0.25), (1.0,), batch, sdm_empty=empty)
    assert found["sdm"] == pytest.approx(0.3 * (1 - empty) ** 2, abs=1e-6)
    assert losses((0.75, 0.25), (1.0,), batch)["sdm"] == 0


def test_weights_scale_their_terms():
    found = losses((0.75, 0.25), (-1.0,))
    more = losses((0.75, 0.25), (-1.0,), weight_sdm=0.6, weight_consistency=3)
    assert more["sdm"] == pytest.approx(2 * found["sdm"])
    assert more["consistency"] == pytest.approx(3 * found["consistency"])
    assert more["supervised"] == found["supervised"]


def method_and_heads(image):
    method = make_toy_method("dtc", dims=2, net={"dropout": 0.0}, geometry="none", intensity="none")
    return method, *method._heads(image)


def test_labelled_and_unlabelled_crops_count_alike_voxel_by_voxel():
    batch = toy_batch(dims=2, labelled=1, unlabelled=3, padded=False)
    batch.valid_u[:, :5] = False
    method, x, s = method_and_heads(torch.cat([batch.image_l, batch.image_u]))
    square = ((-1500 * s[:, 0]).sigmoid() - x.softmax(1)[:, 1]).square().detach()
    valid = torch.cat([batch.valid_l, batch.valid_u])
    found = run_forward(method, batch, toy_progress()).losses
    assert found["consistency"].item() == pytest.approx(RAMP * square[valid].mean().item(), rel=1e-5)
    assert square[:1].mean().item() != pytest.approx(square[valid].mean().item(), rel=1e-3)


def test_neither_head_is_cut_off_from_the_other():
    batch = toy_batch(dims=2)
    method, _, _ = method_and_heads(batch.image_l)
    consistency = run_forward(method, batch, toy_progress()).losses["consistency"]
    weights = method.student.decoders[0].out.weight, method.head_sdm.weight
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(consistency, weights))


def test_the_mask_predicts_whatever_the_distances():
    image = toy_batch(dims=2).image_l
    method, x, _ = method_and_heads(image)
    torch.nn.init.zeros_(method.head_sdm.weight)
    assert torch.equal(method.predict(image), x.softmax(1))
