"""CVRL in both variants on toy data, for its tests: ``from cvrl_variants import make``."""

import pytest
from crops import all_stages, freeze, make_toy_method, warm

(STAGE,) = all_stages("cvrl")
TERMS = {
    "voxel": {"elastic", "global", "local"},
    "batch_feature": {"batch_high", "feature_high", "batch_low", "feature_low", "consistency"},
}
VARIANTS = tuple(TERMS)

in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def make(variant="voxel", *, dims=3, net=None, **fields):
    method = make_toy_method("cvrl", dims=dims, net=net, variant=variant, **({"queue": 64} | fields))
    freeze(method, STAGE)
    return method.train()


def warmed(variant, dims=3, **fields):
    return warm(make(variant, dims=dims, **fields), STAGE, dims=dims)


def shown(variant):
    """Return the names of what a logged step shows."""
    ramped = {"global_ramp", "local_ramp"} if variant == "voxel" else {"consistency_ramp"}
    return ramped | {"voxel_variance", "voxel_rank"}
