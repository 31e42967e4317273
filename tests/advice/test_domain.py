"""Scans that are unlike the labelled ones: each with its reason, and alike ones left alone."""

import math

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from semivox.advice.domain import FEATURES, Trait, compare_scans, look_at_scans
from semivox.data.dataset import read_dataset
from semivox.data.splitting import make_split
from toys import toy_scan, write_toy_dataset


def looks(values, own, **words):
    traits = {f"l{n}": {"size": Trait(value, **words)} for n, value in enumerate(values)}
    found = compare_scans(traits | {"u": {"size": Trait(own, **words)}}, [*traits])
    return found[-1].reasons


def test_the_reach_is_students_prediction_interval_by_hand():
    """Of 1, 2, 3 the deviation is 1; one more scan lies within t(.9975; 2) * root of 4/3 of their mean."""
    reach = stats.t.ppf(0.9975, 2) * math.sqrt(4 / 3)
    assert looks([1, 2, 3], 2 + 0.99 * reach, ratio=False) == ()
    assert looks([1, 2, 3], 2 + 1.01 * reach, ratio=False) == (f"size {2 + 1.01 * reach:.3g}, labelled scans 1 to 3",)


def test_scans_that_agree_are_not_taken_for_exact():
    assert looks([1.0, 1.0, 1.0, 1.0], 1.05) == ()
    assert looks([1.0, 1.0, 1.0, 1.0], 2.0, unit=" mm") == ("size 2 mm, labelled scans 1 mm",)


def test_two_labelled_scans_show_almost_nothing():
    assert looks([1.0], 50.0) == ()
    assert looks([1.0, 1.1], 2.0) == ()


def test_nothing_is_too_near_to_the_labelled_scans():
    traits = {f"l{n}": {FEATURES: Trait(1.0 + n / 10)} for n in range(6)}
    near, far = compare_scans(traits | {"a": {FEATURES: Trait(0.01)}, "b": {FEATURES: Trait(30.0)}}, [*traits])[-2:]
    assert near.reasons == ()
    assert far.reasons[0].startswith(f"{FEATURES} 30, labelled scans 1 to 1.5")


@pytest.fixture(scope="module")
def pool(train_toy, toy_cache, tmp_path_factory):
    """Six labelled scans and three unlabelled: one alike, one of larger voxels, one of noise alone; and a run."""
    folder = tmp_path_factory.mktemp("domain")
    data = write_toy_dataset(folder / "data", cases=7, unlabelled=1)
    generator = np.random.default_rng(5)
    image, _ = toy_scan((20, 18, 12), channels=1, classes=2, generator=generator)
    noise = generator.standard_cauchy((20, 18, 12)).astype(np.float32)
    for name, array, spacing in (("coarse", image[0], (2.0, 1.0, 2.0)), ("noise", noise, (1.0, 1.0, 2.0))):
        nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), data / f"imagesTr/{name}_0000.nii.gz")
    from toy_training import train_toy as train_on

    train_on(data, folder / "run", cache=toy_cache, method="supervised", settings={"steps": 3})
    dataset = read_dataset(data)
    return folder / "run", dataset, make_split(dataset)


def test_unlike_scans_are_named_with_what_is_unlike(pool):
    found = {look.case: look for look in look_at_scans(*pool, device="cpu")}
    assert [case for case, look in found.items() if look.reasons] == ["coarse", "noise"]
    assert any("spacing x 2 mm, labelled scans 1 mm" in reason for reason in found["coarse"].reasons)
    assert any("size x 40 mm, labelled scans 20 mm" in reason for reason in found["coarse"].reasons)
    assert any("of the intensities below" in reason for reason in found["noise"].reasons)
    assert found["case_00"].labelled
    assert not found["coarse"].labelled
