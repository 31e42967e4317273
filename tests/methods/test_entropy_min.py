"""Entropy minimisation."""

import math

import pytest
import torch
from crops import make_toy_method, run_forward, toy_batch, toy_progress

from semivox.ops.ramps import sigmoid_rampup

PLAIN = {"geometry": "none", "intensity": "none"}


class Odds(torch.nn.Module):
    """Says foreground with odds of 3 to 1 where the image is above 1, and does not know elsewhere."""

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), torch.where(image > 1, math.log(3), 0.0)], 1)


def entropy_of(batch, *, step=5, **fields):
    method = make_toy_method("entropy_min", dims=2, **PLAIN | fields)
    method.student = Odds()
    return run_forward(method, batch, toy_progress(step)).losses["entropy"].item()


def blank(*, l_above, u_above):
    """Return a batch without padding: images of 0 with that many columns, of 16, at 2."""
    batch = toy_batch(dims=2, labelled=2, unlabelled=2, padded=False)
    for image, columns in ((batch.image_l, l_above), (batch.image_u, u_above)):
        image.zero_()
        image[..., :columns] = 2
    return batch


def test_the_entropy_is_that_of_unlabelled_voxels_over_log_k():
    """4 of 16 columns have .811278, the others 1: .952820; labelled crops are another thing."""
    weight = 0.3 * sigmoid_rampup(0.5)
    for columns in (0, 16):
        found = entropy_of(blank(l_above=columns, u_above=4), weight=0.3)
        assert found == pytest.approx(weight * 0.952820, rel=1e-5)


def test_as_in_ssl4mis_labelled_voxels_count_as_well():
    weight = 0.1 * sigmoid_rampup(0.5)
    found = entropy_of(blank(l_above=16, u_above=4), crops="all")
    assert found == pytest.approx(weight * (0.952820 + 0.811278) / 2, rel=1e-5)


def test_padding_does_not_count():
    batch = blank(l_above=0, u_above=4)
    batch.valid_u[..., 4:] = False
    assert entropy_of(batch, weight=1) == pytest.approx(sigmoid_rampup(0.5) * 0.811278, rel=1e-5)


def test_the_weight_ramps_up():
    batch = blank(l_above=0, u_above=4)
    assert entropy_of(batch, step=9) / entropy_of(batch, step=0) == pytest.approx(math.exp(5 - 5 * 0.01))


def test_of_four_classes_the_entropy_is_over_log_four():
    method = make_toy_method("entropy_min", dims=2, net={"classes": 4}, weight=1.0, **PLAIN)
    torch.nn.init.zeros_(method.student.decoders[0].out.weight)  # logits 0: in doubt among all four
    loss = run_forward(method, toy_batch(dims=2, classes=4), toy_progress()).losses["entropy"].item()
    assert loss == pytest.approx(sigmoid_rampup(0.5))
