"""Real scans: two hippocampi of the Medical Decathlon go through check, split and prepare, and a mask back to its file.

Run with ``SEMIVOX_DATA=FOLDER``, the folder that holds ``hippocampus``.
"""

import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from semivox.data.checking import check_dataset
from semivox.data.dataset import read_dataset
from semivox.data.preparation import prepare_dataset, prepare_image, restore_probabilities
from semivox.data.recipe import Recipe
from semivox.data.splitting import make_split
from semivox.data.volume import read_image, read_label, write_mask

SOURCE = Path(os.environ.get("SEMIVOX_DATA", "")) / "hippocampus"
CASES = ("hippocampus_003", "hippocampus_006", "hippocampus_007")
RECIPE = Recipe(
    dims=3, spacing=(1.0, 1.0, 1.0), slice_axis=2, normalise=("volume",), clip=(None,), mean=(None,), std=(None,),
    classes=3, channels=1, label_values=(0, 1, 2),
)  # fmt: skip

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not (SOURCE / "dataset.json").exists(), reason="SEMIVOX_DATA names no folder that holds 'hippocampus'"
    ),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a data folder of three cases, the third of them to be held out."""
    folder = tmp_path / "data"
    for name, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        (folder / name).mkdir(parents=True)
        for case in CASES:
            shutil.copy(SOURCE / name / f"{case}{suffix}.nii.gz", folder / name)
    description = json.loads((SOURCE / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(description | {"numTraining": len(CASES)}))
    return folder


def test_two_scans_are_checked_split_and_prepared(folder, tmp_path):
    dataset = read_dataset(folder)
    split = make_split(dataset, labelled=1, held_out=1)
    assert (split.labelled, split.unlabelled, split.held_out) == (CASES[:1], CASES[1:2], CASES[2:])
    assert check_dataset(folder, split=split) == []
    prepared = prepare_dataset(dataset, split, RECIPE, tmp_path / "cache")
    assert tuple(prepared) == CASES[:2]
    assert prepared[CASES[1]].label is None
    for name, case in prepared.items():
        assert case.image.shape == (1, *read_image(dataset.case(name).images).shape)
        assert abs(float(case.image.mean())) < 1e-3
        assert abs(float(case.image.std()) - 1) < 1e-3
    assert_array_equal(prepared[CASES[0]].label, read_label(dataset.case(CASES[0]).label).array)


def test_a_mask_lies_where_its_label_lies(folder, tmp_path):
    case = read_dataset(folder).case(CASES[0])
    scan, label = read_image(case.images), read_label(case.label)
    p = np.eye(3, dtype=np.float32)[label.array].transpose(3, 0, 1, 2)
    restored = restore_probabilities(p, prepare_image(scan, RECIPE)[1]).argmax(0)
    write_mask(restored, scan, tmp_path / "mask.nii.gz")
    written, truth = nib.load(tmp_path / "mask.nii.gz"), nib.load(case.label)
    assert_array_equal(written.dataobj, truth.dataobj)
    assert_array_equal(written.affine, truth.affine)
    assert nib.aff2axcodes(written.affine) == nib.aff2axcodes(truth.affine)
