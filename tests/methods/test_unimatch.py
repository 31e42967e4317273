"""UniMatch: three views of a crop, what the boxes bring along, and which voxels teach."""

import pytest
import torch
from crops import make_toy_method, run_forward, spied, toy_batch, toy_progress

from semivox.methods import unimatch
from semivox.nets.net import Decoded

PLAIN = {"geometry": "none", "intensity": "none"}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


class Voxelwise(torch.nn.Module):
    """A net whose one feature is its logits, made of each voxel by itself."""

    def encode(self, image):
        return {"level1": self.logits_of(image)}

    def decode(self, features):
        return Decoded(features["level1"], ())

    def forward(self, image):
        return self.logits_of(image)


class Columns(Voxelwise):
    """In 16 columns: 4 of sure foreground (.98), 4 of sure background (.99), 8 in doubt (.6)."""

    def __init__(self):
        super().__init__()
        p = torch.tensor([0.98] * 4 + [0.01] * 4 + [0.6] * 8)
        self.logits = torch.nn.Parameter(torch.stack([1 - p, p]).log())  # (2, 16)

    def logits_of(self, image):
        return self.logits[:, None].expand(len(image), 2, image.shape[2], 16)


class Reader(Voxelwise):
    """Finds foreground where the image is above 1, and is sure of all voxels but the others of it."""

    def logits_of(self, image):
        return torch.cat([torch.zeros_like(image), 50 * (image - 1)], 1)


def losses(student, *, batch=None, **fields):
    method = make_toy_method("unimatch", dims=2, **PLAIN | {"cutmix": 0.0, "channel_dropout": 0.0} | fields)
    method.student = student
    return run_forward(method, batch or toy_batch(dims=2, padded=False), toy_progress())


def test_each_term_is_the_dice_loss_where_the_student_is_sure():
    expected = 1 - 2 * 0.98 * 4 / (0.98**2 * 4 + 0.01**2 * 4 + 4)
    terms = losses(Columns(), weight_strong=0.2, weight_features=0.7)
    assert terms.losses["strong"].item() == pytest.approx(0.2 * expected, rel=1e-2)
    assert terms.losses["features"].item() == pytest.approx(0.7 * expected, rel=1e-2)
    assert terms.shown["sure"].item() == 0.5
    everywhere = 1 - 2 * (0.98 * 4 + 0.6 * 8) / (0.98**2 * 4 + 0.01**2 * 4 + 0.6**2 * 8 + 12)
    assert losses(Columns(), confidence=0.5).losses["strong"].item() == pytest.approx(0.5 * everywhere, rel=1e-3)


@pytest.mark.parametrize("term", ["strong", "features"])
def test_voxels_in_doubt_are_ignored_and_not_taught_as_background(term):
    student = Columns()
    losses(student).losses[term].backward()
    assert (student.logits.grad[:, :8].abs() > 0).all()
    assert (student.logits.grad[:, 8:] == 0).all()


def test_padding_does_not_count():
    batch = toy_batch(dims=2, padded=False)
    batch.valid_u[..., 4:] = False
    expected = 1 - 2 * 0.98 / (0.98**2 + 1)
    found = losses(Columns(), batch=batch)
    assert found.losses["strong"].item() == pytest.approx(0.5 * expected, rel=2e-2)
    assert found.shown["sure"].item() == 1


@in_2d_and_3d
def test_a_box_of_the_next_crop_brings_its_labels_and_its_doubt(dims, monkeypatch):
    monkeypatch.setattr(unimatch, "intensity", lambda image, *_, **__: image)
    method = make_toy_method("unimatch", dims=dims, cutmix=1.0, channel_dropout=0.0, **PLAIN)
    method.student, batch = Reader(), toy_batch(dims=dims, padded=False)
    with spied(method.student) as seen:
        terms = run_forward(method, batch, toy_progress())
    assert terms.losses["strong"].item() < 1e-3  # as labels went with voxels, and those in doubt did not count
    assert len(seen) == 4  # labelled, clean, and the strong views
    for mixed, _ in seen[2:]:
        for crop, other in enumerate((1, 2, 3, 0)):
            box = mixed[crop] != batch.image_u[crop]
            assert 0 < box.float().mean() < 0.5
            assert torch.equal(mixed[crop][box], batch.image_u[other][box])


@in_2d_and_3d
def test_labels_come_from_the_clean_crop_and_both_strong_views_of_it_differ(dims):
    method, batch = make_toy_method("unimatch", dims=dims, geometry="wide", cutmix=0.0), toy_batch(dims=dims)
    with spied(method.student.encoder) as seen:
        run_forward(method, batch, toy_progress())
    view = method.augment(batch, toy_progress())
    labelled, clean, one, other, last = (image for image, _ in seen)
    assert torch.equal(labelled, view.image_l)
    assert torch.equal(clean, view.clean_u)
    assert torch.equal(last, view.clean_u)  # its features lose channels, it is strong in nothing else
    assert not torch.equal(one, clean)
    assert not torch.equal(other, clean)
    assert not torch.equal(one, other)


@in_2d_and_3d
def test_half_of_the_channels_of_every_feature_are_left_out_and_the_others_doubled(dims):
    method = make_toy_method("unimatch", dims=dims, net={"filters": 32, "dropout": 0.0}, **PLAIN)
    given = []
    method.student.decoders[0].register_forward_hook(lambda _, features, __: given.append(features[0]))
    run_forward(method, toy_batch(dims=dims), toy_progress())
    whole = method.student.encode(toy_batch(dims=dims).image_u)
    assert given[-1].keys() == whole.keys()
    for name, feature in whole.items():
        ratio = (given[-1][name].flatten(2).sum(2) / feature.flatten(2).sum(2)).round(decimals=3)
        assert set(ratio.unique().tolist()) == {0, 2}, name
        assert (ratio == 0).float().mean().item() == pytest.approx(0.5, abs=0.2), name
        assert not torch.equal(ratio[0], ratio[1])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_labels_are_made_without_dropout_or_with_it(mode):
    method = make_toy_method("unimatch", dims=2, label_mode=mode, **PLAIN).train()
    modes = []
    method.student.encoder.register_forward_hook(lambda module, *_: modes.append(module.training))
    run_forward(method, toy_batch(dims=2), toy_progress())
    assert modes == [True, mode == "train", True, True, True]
