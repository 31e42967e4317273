"""GCL: partitions of scans, regions of slices, and who learns when."""

import math

import pytest
import torch
from crops import (
    all_stages,
    assert_equal,
    freeze,
    make_toy_method,
    one_step,
    run_forward,
    spied,
    toy_batch,
    toy_progress,
)
from torch import nn

from semivox.errors import ConfigError

GLOBAL, LOCAL, FINETUNE = all_stages("gcl")
BARE = {"geometry": "none", "intensity": "none"}


def make(stage, *, dims=2, **fields):
    method = make_toy_method("gcl", dims=dims, net={"dropout": 0.0}, **BARE | fields)
    freeze(method, stage)
    return method.train()


def loss_of(method, stage, batch=None):
    batch = batch or toy_batch(dims=method.student.dims, padded=False)
    return run_forward(method, batch, toy_progress(stage=stage.name)).losses[stage.name]


def opposite(method):
    """Let two crops of two partitions have embeddings that are one way in one partition, the other in the other."""
    means = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]).repeat(2, 1, 1)  # (B, S, W)
    method._partitions = lambda *_: (means, torch.ones(2, 2, dtype=torch.bool))
    method.head_global = nn.Identity()
    return method


def test_partitions_that_lie_opposite_by_hand():
    """Cosine 1 to both crops of the own partition, -1 to both of the other."""
    found = loss_of(opposite(make(GLOBAL, tau=0.5)), GLOBAL)
    assert found.item() == pytest.approx(math.log(1 + 2 * math.exp(-4)), rel=1e-4)


def test_by_itself_an_image_is_told_from_its_own_partition_in_other_crops_too_by_hand():
    """Of six others two are as like as the other view, four lie opposite."""
    found = loss_of(opposite(make(GLOBAL, tau=0.5, positives="own")), GLOBAL)
    assert found.item() == pytest.approx(math.log(3 + 4 * math.exp(-4)), rel=1e-4)


def partitions(method, batch):
    generator = torch.Generator().manual_seed(0)
    return method._partitions(batch.image_u, batch.valid_u, batch.span_u, batch, generator)[1].tolist()


def test_a_slice_lies_in_one_partition_and_a_volume_in_all_that_it_reaches():
    slices = toy_batch(dims=2, padded=False)  # four, from the first to the last of a scan
    assert partitions(make(GLOBAL), slices) == torch.eye(4).bool().tolist()
    assert partitions(make(GLOBAL, partitions=2), slices) == [[True, False]] * 2 + [[False, True]] * 2
    volumes = toy_batch(dims=3, padded=False)  # two planes at the bottleneck, at a quarter and three of the scan
    assert partitions(make(GLOBAL, dims=3), volumes) == [[False, True, False, True]] * 4
    volumes.span_u = volumes.span_u.clone()
    volumes.span_u[:, 2, 1] = 0.5
    assert partitions(make(GLOBAL, dims=3), volumes) == [[True, True, False, False]] * 4


def test_crops_of_one_partition_have_no_negatives():
    batch = toy_batch(dims=2)
    for span in (batch.span_l, batch.span_u):
        span[:, 0] = torch.tensor([0.1, 0.2])
    assert loss_of(make(GLOBAL), GLOBAL, batch) == 0
    assert loss_of(make(GLOBAL, positives="own"), GLOBAL, batch) > 0


def test_slices_are_told_apart_by_partitions_and_volumes_by_themselves_unless_asked():
    assert [make(GLOBAL, dims=dims).positives for dims in (2, 3)] == ["partition", "own"]
    assert make(GLOBAL, dims=3, positives="partition").positives == "partition"


def test_a_batch_that_knows_no_places_is_refused():
    batch = toy_batch(dims=2)
    batch.span_l = batch.span_u = None
    with pytest.raises(ConfigError, match="does not say which part of its scan"):
        loss_of(make(GLOBAL), GLOBAL, batch)


class Nothing(nn.Module):
    """A head for which all regions are as unlike as can be."""

    def forward(self, x):
        return x * 0


@pytest.mark.parametrize("regions", [2, 13])
def test_regions_that_are_told_apart_by_chance_by_hand(regions):
    """Of 2 N - 1 others, one is the region itself."""
    method = make(LOCAL, regions=regions)
    method.head_local = Nothing()
    assert loss_of(method, LOCAL).item() == pytest.approx(math.log(2 * regions - 1))


def test_a_region_has_the_cells_of_its_side_and_blocks_say_where_it_lies():
    for blocks, region, cells in ((1, 2, 16), (2, 4, 16), (9, 8, 4)):  # 8 x 8, then 16 x 16 voxels
        method = make(LOCAL, blocks=blocks, region=region)
        with spied(method.head_local) as seen:
            loss_of(method, LOCAL)
        assert seen[0][0].shape[1] == cells


def test_regions_in_padding_take_no_part():
    method, batch = make(LOCAL, region=4, regions=16), toy_batch(dims=2, padded=False)
    batch.valid_l[:, :8], batch.valid_u[:, :8] = False, False
    method.head_local = Nothing()
    assert loss_of(method, LOCAL, batch).item() == pytest.approx(math.log(2 * 8 - 1))


def test_pretraining_reads_no_label_and_the_local_one_leaves_the_encoder():
    for stage in (GLOBAL, LOCAL):
        method, batch = make(stage), toy_batch(dims=2)
        losses, first = one_step(method, batch, toy_progress(stage=stage.name))
        batch.label_l = 1 - batch.label_l
        others, second = one_step(method, batch, toy_progress(stage=stage.name))
        assert_equal(losses, others)
        assert_equal(first, second)
        assert any("encoder" in name for name in first) == (stage is GLOBAL)


def test_weights_scale_the_contrasts():
    for stage, weight in ((GLOBAL, "weight_global"), (LOCAL, "weight_local")):
        found, more = loss_of(make(stage), stage), loss_of(make(stage, **{weight: 3}), stage)
        assert more.item() == pytest.approx(3 * found.item())


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="leave no step"):
        make_toy_method("gcl").stages(type(make(GLOBAL).config)(pretrain=0.6, local=0.4))
