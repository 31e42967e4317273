"""Critics: what an answer rests on, in 2D and 3D."""

import math

import pytest
import torch

from semivox.nets.build import MakeNet
from semivox.nets.critics import Critic, told_apart

SIZES = {2: (64, 80), 3: (64, 64, 16)}
KINDS = ("pixel", "patch", "image", "whole")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def make(kind, dims=2, **more):
    options = {"channels": 2, "classes": 3, "filters": 2} | more
    return Critic(MakeNet("vnet", dims=dims, **options), kind, width=4).eval()


def inputs(dims=2, batch=2, size=None):
    """Return probabilities, images and where they are valid."""
    size = size or SIZES[dims]
    p = torch.randn(batch, 3, *size).softmax(1).requires_grad_()
    return p, torch.randn(batch, 2, *size, requires_grad=True), torch.ones(batch, *size, dtype=torch.bool)


def reach(kind, at, **more):
    """Return the box of the voxels of one channel that an answer rests on, without a norm, which sees the whole map."""
    critic = make(kind, len(at), **more)
    for name, layer in list(critic.layers.named_children()):
        if type(layer).__name__ == "InstanceNorm":
            setattr(critic.layers, name, torch.nn.Identity())
    p, image, valid = inputs(len(at))
    critic(p, image, valid)[(0, 0, *at)].backward()
    touched = p.grad[0].abs().sum(0).nonzero()
    return tuple((touched.max(0).values - touched.min(0).values + 1).tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [2, 3])
def test_answers_lie_on_a_grid_and_every_weight_learns(kind, dims):
    critic = make(kind, dims)
    logits = critic(*inputs(dims))
    grid = (1,) * dims if kind == "whole" else (length // (1 if kind == "pixel" else 8) for length in SIZES[dims])
    assert logits.shape == (2, 1, *grid)
    logits.square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for name, weight in critic.named_parameters() if "weight" in name)
    assert list(critic.buffers()) == [], "no statistics run along"


def test_the_pixel_critic_has_the_published_layers():
    critic = Critic(MakeNet("unet", dims=2, channels=3, classes=2), "pixel", width=64)
    shapes = [tuple(weight.shape) for weight in critic.parameters() if weight.ndim == 4]
    assert shapes == [(64, 2, 1, 1), (128, 64, 1, 1), (1, 128, 1, 1)]


def test_an_answer_rests_on_one_voxel_or_on_a_patch():
    assert reach("pixel", (20, 20)) == (1, 1)
    assert reach("patch", (4, 5)) == (38, 38)
    assert reach("image", (4, 5)) == (38, 38)


def test_a_patch_critic_strides_as_the_nets_do():
    assert reach("patch", (4, 4, 8), strides=((2, 2, 1),) * 4) == (38, 38, 9)
    assert make("patch", levels=2)(*inputs(size=(4, 4))).shape == (2, 1, 2, 2)
    assert make("patch", strides=((3, 3), (1, 2), (2, 2), (2, 2)))(*inputs(size=(24, 48))).shape == (2, 1, 4, 4)


def test_the_image_is_read_by_two_kinds_alone():
    for kind in KINDS:
        p, image, valid = inputs()
        critic = make(kind)
        critic(p, image, valid).sum().backward()
        assert critic.sees_image == (image.grad is not None) == (kind in ("image", "whole"))


def test_the_whole_critic_has_the_published_layers_and_half_of_their_channels_dropped_while_it_learns():
    critic = Critic(MakeNet("unet", dims=2, channels=1, classes=4), "whole", width=64)
    shapes = [tuple(weight.shape) for weight in critic.parameters() if weight.ndim == 4]
    assert shapes == [(64, 5, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 1, 1)]
    shares = [layer.p for layer in critic.layers if isinstance(layer, torch.nn.Dropout2d)]
    assert shares == [0.5] * 4


def test_the_whole_critic_answers_the_mean_of_its_valid_places():
    critic, (p, image, valid) = make("whole"), inputs()
    valid[0, 16:] = False
    places = critic.layers(torch.cat([p, image], 1) * valid.unsqueeze(1))  # (2, 1, 4, 5), of 16 voxels a side
    answers = critic(p, image, valid).flatten()
    torch.testing.assert_close(answers[0], places[0, 0, :1].mean())
    torch.testing.assert_close(answers[1], places[1, 0].mean())


def test_a_critic_may_be_of_other_maps_than_classes():
    critic = Critic(MakeNet("vnet", dims=2, channels=2, classes=3, filters=2), "whole", width=4, maps=5)
    assert critic.layers[0].in_channels == 7


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_valid_is_not_seen_and_an_answer_does_not_depend_on_the_batch(kind):
    critic, (p, image, valid) = make(kind), inputs()
    valid[0, :16] = False
    logits = critic(p, image, valid)
    outside = ~valid.unsqueeze(1)
    other = critic(torch.where(outside, 9.0, p), torch.where(outside, 9.0, image), valid)
    assert torch.equal(logits, other)
    torch.testing.assert_close(critic(p[:1], image[:1], valid[:1]), logits[:1])


def test_a_map_of_one_class_gives_finite_answers_and_gradients():
    for kind in KINDS:
        critic, (p, image, valid) = make(kind), inputs()
        critic(torch.zeros_like(p).index_fill(1, torch.tensor([0]), 1), image, valid).sum().backward()
        assert all(weight.grad.isfinite().all() for weight in critic.parameters())


def test_who_is_told_apart_moves_no_critic_and_the_critic_moves_no_maps():
    """A critic that says 3/4 of everything: fakes lose -ln 3/4, the critic the mean of -ln 3/4 and -ln 1/4."""
    critic = make("whole")
    with torch.no_grad():
        critic.layers[-1].weight.zero_()
        critic.layers[-1].bias.fill_(math.log(3))
    real, fake = inputs(), inputs(batch=3)
    fooled, told = told_apart(critic, real, fake)
    torch.testing.assert_close(fooled.item(), 0.287682, rtol=0, atol=1e-5)
    torch.testing.assert_close(told.item(), (0.287682 + 1.386294) / 2, rtol=0, atol=1e-5)
    weights = list(critic.parameters())
    assert torch.autograd.grad(fooled, weights, allow_unused=True, retain_graph=True) == (None,) * len(weights)
    assert torch.autograd.grad(told, [real[0], fake[0]], allow_unused=True) == (None, None)
