"""Heads of contrast: pixels on one grid of all features, whole images, and windows of them."""

import pytest
import torch
from torch.nn import functional as F

from semivox.nets.build import MakeNet
from semivox.nets.embedding import DeepHead, PixelHead, RelationHead, VoxelHead
from semivox.nets.net import by

SIZES = {2: (32, 48), 3: (32, 16, 16)}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def make_net(dims, name="vnet", **more):
    options = {"filters": 2, "levels": 4, "channels": 1, "classes": 3} | more
    return MakeNet(name, dims=dims, **options)()


def decoded(net, images=2, size=None):
    return net.decode(net.encode(torch.randn(images, 1, *(size or SIZES[net.dims]))))


# Pixels


@pytest.mark.parametrize("name", ["vnet", "unet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_map_lies_on_a_grid_of_a_quarter_and_pixels_of_it_are_embedded(name, dims):
    net = make_net(dims, name)
    head = PixelHead(net, 12)
    h = head(decoded(net).features)
    assert head.strides == (4,) * dims
    assert h.shape == (2, 64, *(length // 4 for length in SIZES[dims]))
    assert (h >= 0).all()
    for predict in (False, True):
        assert head.embed(h.movedim(1, -1)[0], predict=predict).shape == (*h.shape[2:], 12)


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        (((2, 2), (2, 2), (2, 2)), (4, 4)),
        (((2, 2), (1, 2), (2, 2)), (2, 4)),
        (((3, 3), (3, 3), (1, 1)), (3, 3)),
        (((8, 8), (2, 2), (1, 1)), (1, 1)),
        (((1, 1), (1, 1), (1, 1)), (1, 1)),
    ],
    ids=str,
)
def test_the_grid_is_the_coarsest_with_at_most_four_voxels_to_a_side(strides, expected):
    head = PixelHead(make_net(2, strides=strides), 8)
    assert head.strides == expected


def test_every_feature_of_the_decoder_reaches_the_map_and_every_weight_learns():
    net = make_net(2)
    head, features = PixelHead(net, 12), decoded(net).features
    grids = [f.detach().requires_grad_() for f in features]
    r = head.embed(head(grids).movedim(1, -1), predict=True)
    r.square().sum().backward()
    assert all(f.grad.abs().sum() > 0 for f in grids)
    assert all(weight.grad is not None for weight in head.parameters())


def test_a_pixel_of_the_map_sums_what_lies_at_its_place():
    """Finer features are averaged over its cell, coarser ones interpolated between the centres of theirs."""
    net = make_net(2)
    head = PixelHead(net, 12)
    head.norm = torch.nn.Identity()
    for narrow in head.narrow:
        torch.nn.init.constant_(narrow.weight, 1)
        torch.nn.init.zeros_(narrow.bias)
    ramp = {stride: torch.arange(stride / 2, 64, stride) for stride in (1, 2, 4)}  # centres in voxels
    features = [
        (ramp[stride][:, None] / width).expand(1, width, -1, 64 // stride)
        for (stride, _), width in zip(net.decoded_strides, net.decoded_widths, strict=True)
    ]
    h = head(features)[0, 0]
    torch.testing.assert_close(h, (3 * ramp[4])[:, None].expand(16, 16))


def test_the_embedding_is_affine_unless_it_is_predicted():
    head, h = PixelHead(make_net(2), 12), torch.randn(50, 64)
    torch.testing.assert_close(head.embed(h.mean(0), predict=False), head.embed(h, predict=False).mean(0))
    assert not torch.allclose(head.embed(h.mean(0), predict=True), head.embed(h, predict=True).mean(0), atol=1e-3)


@pytest.mark.parametrize("name", ["vnet", "unet"])
def test_no_image_changes_the_embeddings_of_another(name):
    net = make_net(2, name).eval()
    head, image = PixelHead(net, 12), torch.randn(2, 1, 32, 32)
    both = head(net.decode(net.encode(image)).features)
    single = torch.cat([head(net.decode(net.encode(one[None])).features) for one in image])
    torch.testing.assert_close(both, single, rtol=1e-3, atol=1e-4)


# Images and windows


@pytest.mark.parametrize(("dims", "windows", "side"), [(2, 49, 64), (3, 343, 64)])
def test_images_and_their_windows_become_vectors(dims, windows, side):
    net = make_net(dims)
    head = RelationHead(net, 10)
    image, valid = torch.randn(2, 1, *SIZES[dims]), torch.ones(2, *SIZES[dims], dtype=torch.bool)
    features = net.encode(image)
    for predict in (False, True):
        whole, local = head(features["bottleneck"], net.decode(features).logits, valid, predict=predict)
        assert whole.shape == (2, 10)
        assert local.shape == (windows, 2, 3 * side)
    assert head.local_size == (windows, 3 * side)


def plain(dims=2):
    """Return a relation head whose local embedding is the pooled logits as they are, and its net."""
    net = make_net(dims)
    head = RelationHead(net, 10)
    head.project_local = torch.nn.Identity()
    return net, head


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_are_a_quarter_of_the_image_to_a_side_and_overlap_by_half(dims):
    """Window by window, image by image, as cut by hand."""
    net, head = plain(dims)
    side = 4 * head.window
    logits, valid = torch.randn(2, 3, *(side,) * dims), torch.ones(2, *(side,) * dims, dtype=torch.bool)
    _, local = head(torch.randn(2, net.widths["bottleneck"], *(2,) * dims), logits, valid, predict=False)
    step, cuts = head.window // 2, []
    for corner in torch.cartesian_prod(*[torch.arange(7) * step] * dims).tolist():
        window = logits
        for axis, start in enumerate(corner, start=2):
            window = window.narrow(axis, start, head.window)
        cuts.append(window.flatten(1))
    torch.testing.assert_close(local, torch.stack(cuts))


def test_what_is_not_valid_changes_no_embedding():
    net, head = plain()
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[:, :16] = False
    bottleneck, logits = torch.randn(2, net.widths["bottleneck"], 4, 4), torch.randn(2, 3, 32, 32)
    whole, local = head(bottleneck, logits, valid, predict=False)
    bottleneck[:, :, :2], logits[:, :, :16] = 7, 9
    again, local_again = head(bottleneck, logits, valid, predict=False)
    torch.testing.assert_close(again, whole)
    torch.testing.assert_close(local_again, local)
    assert not local[0].any()  # a window with nothing valid


def test_images_of_any_size_have_as_many_windows():
    net, head = plain()
    for size in ((16, 16), (48, 80)):
        logits, valid = torch.randn(1, 3, *size), torch.ones(1, *size, dtype=torch.bool)
        _, local = head(torch.randn(1, net.widths["bottleneck"], 2, 2), logits, valid, predict=False)
        assert local.shape == (49, 1, 3 * 64), by(size)
        torch.testing.assert_close(local[0, 0].reshape(3, 8, 8), F.adaptive_avg_pool2d(logits[0], 32)[:, :8, :8])


def test_projections_and_predictors_are_not_linear():
    """Released, they are; the paper says non-linear."""
    head = RelationHead(make_net(2), 10)
    for part in (head.project, head.predict, head.project_local, head.predict_local):
        assert any(isinstance(layer, torch.nn.ReLU) for layer in part)


def test_images_are_embedded_in_single_precision_under_autocast():
    net = make_net(2)
    head, valid = RelationHead(net, 10), torch.ones(2, 32, 32, dtype=torch.bool)
    bottleneck, logits = torch.randn(2, net.widths["bottleneck"], 4, 4), torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(bottleneck, logits, valid, predict=True)
    assert all(torch.equal(a, b) for a, b in zip(inside, head(bottleneck, logits, valid, predict=True), strict=True))


@pytest.mark.parametrize("name", ["vnet", "unet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_voxels_of_a_decoder_level_become_rows_of_unit_length(name, dims):
    net = make_net(dims, name)
    z = VoxelHead(net, 12)(decoded(net))
    assert z.shape == (2, 12, *(length // 4 for length in SIZES[dims]))
    torch.testing.assert_close(z.norm(dim=1), torch.ones_like(z[:, 0]))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_deep_head_embeds_what_images_hold_on_average_their_bottlenecks_and_drawn_voxels(dims):
    net = make_net(dims)
    features = net.encode(torch.randn(2, 1, *SIZES[dims]))
    out, head = net.decode(features), DeepHead(net, 12)
    deep = torch.ones(2, *features["bottleneck"].shape[2:], dtype=torch.bool)
    deep[1, 0] = False
    images, rows, z = head(features, out, deep, torch.tensor([5, 0, 5]))
    means = torch.stack([x[:, on].mean(1) for x, on in zip(features["bottleneck"], deep, strict=True)])
    torch.testing.assert_close(images, head.high(means))
    assert rows.shape == (deep.numel(), 12)
    torch.testing.assert_close(rows[-1], head.high(features["bottleneck"][1].flatten(1)[:, -1]))
    torch.testing.assert_close(z[0], head.low(out.features[-1][0].flatten(1)[:, 5]))
    assert torch.equal(z[0], z[2])
