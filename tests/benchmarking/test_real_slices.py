"""Real slices: hearts of ACDC become slices of 128 x 128 and lie in their files' own grid again; patients stay whole.

Run with ``SEMIVOX_DATA=FOLDER``, the folder that holds ``acdc``.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from semivox.benchmarking.protocols import read_protocol
from semivox.benchmarking.splits import deal
from semivox.data.checking import check_dataset
from semivox.data.dataset import read_dataset
from semivox.data.preparation import prepare_dataset, prepare_image, prepare_label, restore_probabilities
from semivox.data.recipe import Recipe
from semivox.data.splitting import make_split
from semivox.data.volume import read_image, read_label, write_mask
from semivox.errors import DatasetError

SOURCE = Path(os.environ.get("SEMIVOX_DATA", "")) / "acdc"
PROTOCOLS = Path(__file__).parents[2] / "benchmarks"
PATIENT = r"patient\d+"
RECIPE = Recipe(
    dims=2, spacing=None, slice_axis=2, normalise=("volume",), clip=(None,), mean=(None,), std=(None,),
    classes=4, channels=1, label_values=(0, 1, 2, 3), resize=(128, 128),
)  # fmt: skip

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (SOURCE / "dataset.json").exists(), reason="SEMIVOX_DATA names no folder that holds 'acdc'"),
]


@pytest.mark.parametrize("case", ["patient099_frame01", "patient005_frame02"], ids=["lying", "upright"])
def test_slices_come_back_to_their_file_with_little_loss(case, tmp_path):
    found = read_dataset(SOURCE).case(case)
    scan, label = read_image(found.images), read_label(found.label)
    image, geometry = prepare_image(scan, RECIPE)
    assert image.shape == (1, scan.shape[2], 128, 128), "slices first"
    p = np.eye(4, dtype=np.float32)[prepare_label(label, geometry, RECIPE)].transpose(3, 0, 1, 2)
    restored = restore_probabilities(p, geometry).argmax(0)
    for value in (1, 2, 3):
        mine, truth = restored == value, label.array == value
        assert 2 * (mine & truth).sum() / (mine.sum() + truth.sum()) > 0.9, value
    write_mask(restored, scan, tmp_path / "mask.nii.gz")
    written, file = nib.load(tmp_path / "mask.nii.gz"), nib.load(found.label)
    assert written.shape == file.shape
    assert_array_equal(written.affine, file.affine)


def test_a_stored_slice_is_the_slice_of_its_file():
    found = read_dataset(SOURCE).case("patient005_frame01")
    scan = read_image(found.images)
    scan = replace(scan, array=np.broadcast_to(np.arange(scan.shape[2], dtype=np.float32), scan.array.shape))
    image, _ = prepare_image(scan, RECIPE)
    means = image.mean((0, 2, 3))
    assert (image.std((0, 2, 3)) < 1e-3).all(), "nothing flows between slices"
    assert (np.diff(means) > 0).all()


@pytest.mark.parametrize("patients", [1, 3])
def test_the_protocols_keep_patients_whole_and_the_published_test_scans_shut(patients):
    dataset = read_dataset(SOURCE)
    protocol = read_protocol(PROTOCOLS / f"acdc-{patients}.toml")
    split, groups = deal(protocol, *protocol.run[0].budgets, dataset)
    assert {len(cases) for cases in groups.values()} == {20}
    assert (len(split.labelled), len(split.pool), len(split.held_out)) == (2 * patients, 120, 40)
    whose = [{case.partition("_")[0] for case in cases} for cases in (split.labelled, split.unlabelled, split.held_out)]
    assert sum(map(len, whose)) == len(set.union(*whose)) == 80
    assert not {*dataset.tests} & {*split.pool, *split.held_out}


def test_twins_are_a_warning_on_one_side_and_an_error_on_two(tmp_path):
    names = ("patient073_frame01", "patient074_frame01", "patient076_frame01")
    for name in names:
        for part, file in (("imagesTr", f"{name}_0000.nii.gz"), ("labelsTr", f"{name}.nii.gz")):
            (tmp_path / "twins" / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / part / file, tmp_path / "twins" / part)
    shutil.copy(SOURCE / "dataset.json", tmp_path / "twins")
    dataset = read_dataset(tmp_path / "twins")
    split = make_split(dataset, labelled=[names[1]], held_out=[names[0]], patients=PATIENT)
    about_twins = [fault for fault in check_dataset(tmp_path / "twins", split=split) if names[2] in str(fault)]
    assert [fault.severity for fault in about_twins] == ["warning"]
    assert set(prepare_dataset(dataset, split, RECIPE, tmp_path / "cache")) == {*names[1:]}
    torn = make_split(dataset, labelled=[names[1]], held_out=[names[2]], patients=PATIENT)
    with pytest.raises(DatasetError, match="the same scan as held-out"):
        prepare_dataset(dataset, torn, RECIPE, tmp_path / "cache")
