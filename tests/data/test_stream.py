"""Batches are a function of the step; crops show every case equally, and foreground as often as promised."""

import threading
from collections import Counter

import numpy as np
import pytest
import torch

from semivox.data.dataset import IGNORE
from semivox.data.preparation import PreparedCase
from semivox.data.stream import Stream
from semivox.data.targets import distances
from semivox.errors import ConfigError

SHAPE = (14, 11, 9)


def case(name, *, shape=SHAPE, labelled=True, spacing=(1.0, 1.0, 2.0)):
    """Return a case whose image counts its voxels from 1, so that a crop tells where it was cut."""
    image = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(1, *shape)
    if not labelled:
        return PreparedCase(name, image, spacing, name)
    label = np.zeros(shape, np.uint8)
    label[1, 1, 1], label[-2, -2, -2], label[0] = 1, 2, IGNORE
    label[5:8, 4:7, 3:6] = 1
    points = np.argwhere((label == 1) | (label == 2)).astype(np.int32)
    maps = distances(label, 3, spacing)
    return PreparedCase(name, image, spacing, name, label, points, maps, maps.max((2, 3, 4)).astype(np.float32))


def make_stream(labelled=3, unlabelled=5, *, shape=SHAPE, **changes):
    options = {"patch": (6, 5, 4), "batch_labelled": 2, "batch_unlabelled": 2, "seed": 0, "stage": "train"} | changes
    return Stream(
        [case(f"l{i}", shape=shape) for i in range(labelled)],
        [case(f"u{i}", shape=shape, labelled=False) for i in range(unlabelled)],
        **options,
    )


def tensors(batch):
    named = {name: getattr(batch, name) for name in batch.__slots__} | batch.targets_l
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}


def assert_same(one, other):
    assert tensors(one).keys() == tensors(other).keys()
    for name, value in tensors(one).items():
        assert torch.equal(value, tensors(other)[name]), name


def test_a_batch_is_a_function_of_its_step():
    stream = make_stream(needs=frozenset({"distances"}))
    wanted = {step: stream.batch(step) for step in (7, 2, 3)}
    assert_same(stream.batch(7), wanted[7])
    fresh = make_stream(needs=frozenset({"distances"}))
    for step, batch in zip(range(2, 8), fresh.iterate(2, 8), strict=True):
        if step in wanted:
            assert_same(batch, wanted[step])


@pytest.mark.parametrize("change", [{"seed": 1}, {"stage": "second"}, {"rank": 1}])
def test_seed_stage_and_rank_change_the_crops(change):
    one, other = make_stream().batch(0), make_stream(**change).batch(0)
    assert not torch.equal(one.corner_u, other.corner_u)


def test_labelled_halves_never_mix_and_take_turns():
    needs = frozenset({"labelled_halves"})
    stream = make_stream(labelled=5, batch_labelled=3, needs=needs)
    batches = [stream.batch(step) for step in range(8)]
    groups = torch.cat([batch.group_l for batch in batches])
    cases = torch.cat([batch.case_l for batch in batches])
    assert groups.tolist() == [0, 1] * 12
    halves = [set(cases[groups == half].tolist()) for half in (0, 1)]
    assert sorted(map(len, halves)) == [2, 3]
    assert halves[0] | halves[1] == set(range(5))
    for half in (0, 1):
        assert max(seen := Counter(cases[groups == half].tolist()).values()) - min(seen) <= 0, "12 turns of 2 or 3"

    def half_of_each(**changes):
        batch = make_stream(labelled=5, batch_labelled=10, needs=needs, **changes).batch(0)
        return dict(zip(batch.case_l.tolist(), batch.group_l.tolist(), strict=True))

    assert half_of_each() == half_of_each(stage="second") == half_of_each(rank=1)
    assert any(half_of_each(seed=seed) != half_of_each() for seed in range(1, 6))
    without = make_stream(labelled=5, batch_labelled=3)
    assert without.batch(1).group_l.tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="two halves of the labelled cases, found 1 case"):
        make_stream(labelled=1, needs=needs)


def test_batches_for_a_gpu_are_pinned_whole(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    make_stream(needs=frozenset({"distances"})).batch(0)
    assert pinned == []
    batch = make_stream(needs=frozenset({"distances"}), pin=True).batch(0)
    assert {id(tensor) for tensor in pinned} == {id(tensor) for tensor in tensors(batch).values()}


def test_shapes_types_and_places():
    batch = make_stream(needs=frozenset({"distances"})).batch(4)
    assert batch.image_l.shape == batch.image_u.shape == (2, 1, 6, 5, 4)
    assert batch.targets_l["distances"].shape == (2, 2, 2, 6, 5, 4)
    assert batch.targets_l["largest"].shape == (2, 2, 2)
    assert (batch.targets_l["distances"].amax((3, 4, 5)) <= batch.targets_l["largest"]).all()
    assert (batch.spacing, batch.slice_axis) == ((1.0, 1.0, 2.0), 2)
    assert (batch.label_l.dtype, batch.targets_l["distances"].dtype) == (torch.uint8, torch.float16)  # as stored
    batch = batch.to("cpu")
    kinds = {name: value.dtype for name, value in tensors(batch).items()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {
        "image_l", "image_u", "distances", "largest", "span_l", "span_u",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind == torch.bool} == {"valid_l", "valid_u"}
    assert {kind for kind in kinds.values()} == {torch.float32, torch.int64, torch.bool}
    whole = case("l0")
    for item, (x, y, z) in enumerate(batch.corner_l.tolist()):
        box = (slice(x, x + 6), slice(y, y + 5), slice(z, z + 4))
        label = torch.from_numpy(whole.label[box].astype(np.int64))
        assert torch.equal(batch.image_l[item, 0], torch.from_numpy(whole.image[0][box]))
        assert torch.equal(batch.valid_l[item], label != IGNORE)
        assert torch.equal(batch.label_l[item], label.where(label != IGNORE, 0))
        assert torch.equal(batch.targets_l["distances"][item], torch.from_numpy(whole.distances[(..., *box)]).float())


def test_every_case_is_seen_equally_often():
    stream = make_stream(labelled=3, unlabelled=5)
    batches = [stream.batch(step) for step in range(15)]
    assert set(Counter(torch.cat([batch.case_l for batch in batches]).tolist()).values()) == {10}
    assert set(Counter(torch.cat([batch.case_u for batch in batches]).tolist()).values()) == {6}
    rounds = torch.cat([batch.case_u for batch in batches]).view(6, 5)
    assert (rounds.sort(1).values == torch.arange(5)).all()  # each round shows all
    assert len({tuple(order) for order in rounds.tolist()}) > 1  # in another order


def test_one_third_of_labelled_crops_is_centred_on_foreground_and_no_unlabelled_one():
    """Foreground is one voxel of each of two classes, so that hardly any crop is centred on it by chance."""
    shape = (40, 40, 40)
    label = np.zeros(shape, np.uint8)
    label[20, 10, 30], label[10, 30, 20] = 1, 2
    image = np.zeros((1, *shape), np.float32)
    points = np.argwhere(label).astype(np.int32)
    labelled = [PreparedCase("l", image, (1.0,) * 3, "", label, points)]
    stream = Stream(
        labelled, [PreparedCase("u", image, (1.0,) * 3, "")], patch=(4, 4, 4), batch_labelled=10, batch_unlabelled=10,
        seed=0, stage="train",
    )  # fmt: skip
    batches = [stream.batch(step) for step in range(60)]
    centres = Counter(label[tuple((corner + 2).tolist())] for batch in batches for corner in batch.corner_l)
    assert sum(centres.values()) == 600
    assert abs(centres[1] + centres[2] - 200) < 35  # three standard deviations
    assert abs(centres[1] - centres[2]) < 45
    assert not any(label[tuple((corner + 2).tolist())] for batch in batches for corner in batch.corner_u)
    everywhere = torch.cat([batch.corner_u for batch in batches])
    assert everywhere.min() == 0
    assert everywhere.max() == 36


def test_centred_crops_stay_within_the_case():
    stream = make_stream(foreground=1.0)
    for step in range(20):
        batch = stream.batch(step)
        assert (batch.corner_l >= 0).all()
        assert (batch.corner_l + torch.tensor([6, 5, 4]) <= torch.tensor(SHAPE)).all()
        assert ((batch.label_l > 0).flatten(1).any(1)).all()


def test_spans_say_which_part_of_its_scan_a_crop_holds():
    batch = make_stream().batch(4)
    size = torch.tensor(SHAPE)
    assert batch.span_u.shape == (2, 3, 2)
    torch.testing.assert_close(batch.span_u[..., 0] * size, batch.corner_u.float())
    torch.testing.assert_close(batch.span_u[..., 1] * size, batch.corner_u + torch.tensor([6.0, 5.0, 4.0]))
    padded = make_stream(shape=(14, 8, 9), patch=(6, 12, 9)).batch(0)
    assert padded.span_l[:, 1].tolist() == [[-0.25, 1.25]] * 2
    assert padded.span_l[:, 2].tolist() == [[0, 1]] * 2


def test_the_span_of_a_slice_begins_with_the_axis_across_the_slices():
    batch = make_stream(patch=(5, 9), dims=2).batch(1)
    first = batch.image_u[:, 0, 0, 0].long() - 1  # its number tells where it lies
    torch.testing.assert_close(batch.span_u[:, 0] * 14, (first // (11 * 9))[:, None] + torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(batch.span_u[:, 1] * 11, batch.corner_u[:, :1] + torch.tensor([0.0, 5.0]))
    assert batch.span_u[:, 2].tolist() == [[0, 1]] * 2


def test_padding_is_zero_invalid_and_on_both_sides():
    stream = make_stream(shape=(14, 8, 9), patch=(6, 11, 12), needs=frozenset({"distances"}))
    batch = stream.batch(0)
    inside = torch.zeros(2, 6, 11, 12, dtype=torch.bool)
    inside[:, :, 1:9, 1:10] = True
    assert (batch.corner_l[:, 1:] == -1).all()
    assert torch.equal(batch.valid_u, inside)
    assert torch.equal(batch.image_u[:, 0] > 0, inside)
    assert torch.equal(batch.image_l[:, 0] > 0, inside)
    assert not batch.valid_l[~inside].any()
    assert not batch.label_l[~batch.valid_l].any()
    maps = batch.targets_l["distances"]
    assert torch.equal(maps[..., 0, :], maps[..., 1, :])  # continued by the last value
    assert torch.equal(maps[..., 11], maps[..., 9])


def test_2d_crops_are_parts_of_single_slices():
    stream = make_stream(patch=(5, 12), dims=2, needs=frozenset({"distances"}))
    batch = stream.batch(1)
    assert batch.image_l.shape == (2, 1, 5, 12)
    assert batch.targets_l["distances"].shape == (2, 2, 2, 5, 12)
    assert batch.corner_l.shape == (2, 2)
    assert batch.spacing == (1.0, 2.0)
    slices = set()
    for step in range(60):
        batch = stream.batch(step)
        for item, valid in zip(batch.image_u, batch.valid_u, strict=True):
            numbers = torch.unique((item[0][valid].long() - 1) // (11 * 9))
            assert len(numbers) == 1
            slices.add(int(numbers))
    assert slices == set(range(14))


def test_no_unlabelled_crops_leave_their_fields_empty():
    batch = make_stream(unlabelled=0, batch_unlabelled=0).batch(0)
    assert batch.image_u is batch.valid_u is batch.case_u is None


def test_pseudo_labels_and_weights_are_cut_where_the_image_is():
    image = case("u").image[0]
    pseudo = {f"u{i}": ((image % 3).astype(np.uint8), image / 1000) for i in range(5)}
    batch = make_stream(pseudo=pseudo).batch(0)
    assert torch.equal(batch.label_u, batch.image_u[:, 0].long() % 3)
    torch.testing.assert_close(batch.weight_u, batch.image_u[:, 0] / 1000)


def test_a_case_without_foreground_is_cropped_anywhere():
    empty = case("l0")
    empty.label[:] = 0
    bare = PreparedCase("l0", empty.image, empty.spacing, "", empty.label, np.empty((0, 3), np.int32))
    options = {"patch": (4, 4, 4), "batch_labelled": 4, "batch_unlabelled": 0, "seed": 0, "stage": "train"}
    stream = Stream([bare], [], foreground=1.0, **options)
    assert len(torch.unique(stream.batch(0).corner_l, dim=0)) > 1


def stream_threads():
    return [thread for thread in threading.enumerate() if thread.name == "semivox-stream"]


def test_an_error_in_the_thread_reaches_the_consumer_after_the_batches_before_it(monkeypatch):
    stream = make_stream()
    whole = stream.batch

    def broken(step):
        if step == 3:
            raise OSError("the disk is gone")
        return whole(step)

    monkeypatch.setattr(stream, "batch", broken)
    batches = stream.iterate(0, 10)
    for step in range(3):
        assert_same(next(batches), whole(step))
    with pytest.raises(OSError, match="disk is gone"):
        next(batches)
    assert not stream_threads()


@pytest.mark.parametrize("taken", [1, 4, 50])
def test_the_thread_ends_with_the_iterator(taken):
    batches = make_stream().iterate(0, 50)
    for _ in range(taken):
        next(batches)
    batches.close()
    assert not stream_threads()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabelled": 0}, "no unlabelled case"),
        ({"labelled": 0}, "no labelled case"),
        ({"batch_labelled": 0}, "at least 1"),
        ({"patch": (4, 4)}, "patch"),
        ({"pseudo": {}}, "'u0'"),
    ],
)
def test_what_no_case_can_give_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_stream(**changes)


def test_missing_targets_name_the_case():
    plain = case("l0")
    bare = PreparedCase("l0", plain.image, plain.spacing, "", plain.label, plain.foreground)
    options = {"patch": (4, 4, 4), "batch_labelled": 1, "batch_unlabelled": 0, "seed": 0, "stage": "train"}
    with pytest.raises(ConfigError, match=r"'l0'.*distances"):
        Stream([bare], [], needs=frozenset({"distances"}), **options)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([(1.5, 1.5), (1.0, 1.0), (2.0, 2.0)], (1.5, 1.5)),
        ([(2.6, 3.1), (2.6, 3.1)], (2.6, 3.1)),
        ([(2.6, 3.1), (3.1, 2.6)], (1.0, 1.0)),
    ],
    ids=["one shape", "not square, but alike", "resized, each by its own factors"],
)
def test_pixels_of_different_shapes_count_as_square(sides, expected):
    cases = [case(f"l{i}", spacing=(8.0, *side)) for i, side in enumerate(sides)]
    options = {"batch_labelled": 1, "batch_unlabelled": 0, "seed": 0, "stage": "train"}
    assert Stream(cases, [], patch=(6, 5), dims=2, **options).batch(0).spacing == expected
    assert Stream(cases, [], patch=(6, 5, 4), **options).batch(0).spacing[0] == 8.0, "volumes keep their medians"
