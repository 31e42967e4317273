"""Fingerprint and recipe: from headers of the pool and labels of the labelled cases, and from nothing else."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from semivox.config.keys import Config
from semivox.data.dataset import read_dataset
from semivox.data.splitting import Split
from semivox.errors import ConfigError, DatasetError
from semivox.planning.fingerprint import Fingerprint, fingerprint, is_ct, make_recipe
from toys import write_toy_dataset

SPLIT = Split(labelled=("case_00", "case_01"), unlabelled=("case_02", "case_04"), held_out=("case_03",))


@pytest.fixture
def folder(tmp_path):
    return write_toy_dataset(tmp_path / "toy", cases=6, unlabelled=2)


@pytest.fixture
def ct_folder(folder):
    rename_channel(folder, "CT")
    return folder


def rename_channel(folder, name):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channel_names": {"0": name}}))


def foreground(folder):
    values = []
    for case in SPLIT.labelled:
        image = nibabel.load(folder / f"imagesTr/{case}_0000.nii.gz").get_fdata()
        values.append(image[nibabel.load(folder / f"labelsTr/{case}.nii.gz").get_fdata() > 0])
    return np.concatenate(values)


def test_it_holds_shapes_and_spacings_of_the_whole_pool_labelled_first(folder):
    found = fingerprint(read_dataset(folder), SPLIT)
    assert found.shapes == ((20, 18, 12),) * 4
    assert found.spacings == ((1.0, 1.0, 2.0),) * 4
    assert found.channels == ("MR_0",)
    assert found.foreground == (None,)
    assert found.ct == (False,)


def test_it_survives_json(ct_folder):
    found = fingerprint(read_dataset(ct_folder), SPLIT)
    assert Fingerprint.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_ct_statistics_are_those_of_the_labelled_foreground(ct_folder):
    (found,) = fingerprint(read_dataset(ct_folder), SPLIT).foreground
    values = foreground(ct_folder)
    assert [found.low, found.high] == pytest.approx(np.percentile(values, [0.5, 99.5]))
    assert [found.mean, found.std] == pytest.approx([values.mean(), values.std()])


def test_nothing_but_the_pool_and_its_labels_is_opened(ct_folder):
    dataset = read_dataset(ct_folder)
    before = fingerprint(dataset, SPLIT)
    (ct_folder / "imagesTr/case_03_0000.nii.gz").unlink()
    for case in ("case_02", "case_03"):
        (ct_folder / f"labelsTr/{case}.nii.gz").write_bytes(b"no image")
    assert fingerprint(dataset, SPLIT) == before
    assert make_recipe(dataset, SPLIT, Config(), before)


def test_ignored_voxels_are_no_foreground(ct_folder):
    path = ct_folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": {"background": 0, "blob": 1, "ignore": 2}}))
    label_path = ct_folder / "labelsTr/case_00.nii.gz"
    label = nibabel.load(label_path)
    array = np.asarray(label.dataobj).copy()
    array[array == 0] = 2
    nibabel.save(nibabel.Nifti1Image(array, label.affine), label_path)
    (found,) = fingerprint(read_dataset(ct_folder), SPLIT).foreground
    image = np.concatenate(
        [np.ravel(nibabel.load(ct_folder / f"imagesTr/{c}_0000.nii.gz").dataobj) for c in SPLIT.labelled]
    )
    assert found.mean > image.mean() + 20  # the blobs are brighter than the rest


def test_labels_without_foreground_are_refused_with_a_way_out(ct_folder):
    for case in SPLIT.labelled:
        path = ct_folder / f"labelsTr/{case}.nii.gz"
        label = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), path)
    with pytest.raises(DatasetError, match=r"no foreground voxel.*prepare\.normalise"):
        fingerprint(read_dataset(ct_folder), SPLIT)


def test_an_empty_pool_is_refused(folder):
    with pytest.raises(DatasetError, match="pool is empty"):
        fingerprint(read_dataset(folder), Split(labelled=(), held_out=("case_00",)))


def test_recipe_of_mr_is_scan_by_scan(folder):
    dataset = read_dataset(folder)
    config = Config(spacing=(1.0, 1.0, 2.0), slice_axis=2)
    recipe = make_recipe(dataset, SPLIT, config, fingerprint(dataset, SPLIT))
    assert (recipe.normalise, recipe.clip, recipe.mean, recipe.std) == (("volume",), (None,), (None,), (None,))
    assert (recipe.dims, recipe.spacing, recipe.classes, recipe.channels) == (3, (1.0, 1.0, 2.0), 2, 1)


def test_recipe_of_ct_clips_and_scales_by_the_foreground(ct_folder):
    dataset = read_dataset(ct_folder)
    found = fingerprint(dataset, SPLIT)
    recipe = make_recipe(dataset, SPLIT, Config(), found)
    (known,) = found.foreground
    assert recipe.normalise == ("foreground",)
    assert (recipe.clip, recipe.mean, recipe.std) == (((known.low, known.high),), (known.mean,), (known.std,))


def test_prepare_keys_overrule_the_modality(folder, ct_folder):
    dataset = read_dataset(ct_folder)
    config = Config(prepare={"normalise": "volume", "clip": (-100.0, 240.0)})
    recipe = make_recipe(dataset, SPLIT, config, fingerprint(dataset, SPLIT))
    assert (recipe.normalise, recipe.clip, recipe.mean) == (("volume",), ((-100.0, 240.0),), (None,))
    rename_channel(folder, "T1")
    dataset = read_dataset(folder)
    recipe = make_recipe(dataset, SPLIT, Config(prepare={"normalise": "foreground"}), fingerprint(dataset, SPLIT))
    assert recipe.mean[0] == pytest.approx(foreground(folder).mean())
    assert recipe.clip == (None,)


def test_boxes_are_read_and_a_wrong_one_names_its_case(folder, tmp_path):
    dataset = read_dataset(folder)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"case_00": [0, 0, 0, 10, 9, 8]}))
    config = Config(prepare={"boxes": str(boxes)})
    found = fingerprint(dataset, SPLIT)
    assert make_recipe(dataset, SPLIT, config, found).boxes == {"case_00": (0, 0, 0, 10, 9, 8)}
    boxes.write_text(json.dumps({"case_01": [0, 0, 9, 10, 9, 8]}))
    with pytest.raises(ConfigError, match="case_01"):
        make_recipe(dataset, SPLIT, config, found)
    boxes.write_text("[]")
    with pytest.raises(ConfigError, match=r"prepare\.boxes"):
        make_recipe(dataset, SPLIT, config, found)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("CT", True),
        ("ct", True),
        ("venous_CT", True),
        ("CTA", True),
        ("OCT", False),
        ("T1", False),
        ("octant", False),
        ("CT1", False),
        ("CT2w", False),
        ("ct_1", True),
    ],
)
def test_ct_is_told_by_the_channel_name(name, answer):
    assert is_ct(name) is answer


def test_every_case_has_its_say_however_large(monkeypatch, ct_folder):
    """With at most ten voxels a case, the mean lies near the mean of the cases' means."""
    monkeypatch.setattr("semivox.planning.fingerprint.MOST_VOXELS", 10)
    dataset = read_dataset(ct_folder)
    path = ct_folder / "imagesTr/case_00_0000.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 1000.0, np.float32), image.affine), path)
    (found,) = fingerprint(dataset, SPLIT).foreground
    assert found.mean == pytest.approx((1000 + foreground(ct_folder)[-100:].mean()) / 2, rel=0.05)


def test_a_label_on_another_grid_is_refused(ct_folder):
    path = ct_folder / "labelsTr/case_01.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), path)
    with pytest.raises(ValueError, match=r"case_01.*\(4, 4, 4\)"):
        fingerprint(read_dataset(ct_folder), SPLIT)


def test_config_is_read_by_its_names_alone(folder):
    """Whoever plans without a config file can hand over anything that has the keys."""
    dataset = read_dataset(folder)
    keys = SimpleNamespace(clip=None, normalise=None, boxes=None)
    config = SimpleNamespace(dims=2, spacing=None, resize=(8, 8), slice_axis=2, prepare=keys)
    assert make_recipe(dataset, SPLIT, config, fingerprint(dataset, SPLIT)).resize == (8, 8)
