"""Scans become arrays and predictions find their way back; nothing is opened that training must not see."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.data import preparation
from semivox.data.dataset import IGNORE, read_dataset
from semivox.data.preparation import Recipe, prepare_dataset, prepare_image, prepare_label, restore_probabilities
from semivox.data.splitting import make_split, write_split
from semivox.data.volume import read_image, read_label
from semivox.errors import ConfigError, DatasetError, GeometryError, RunError
from toys import write_toy_dataset

SHAPE, SPACING = (22, 17, 14), (1.0, 1.5, 2.5)


def recipe_for(**changes):
    values = {
        "dims": 3, "spacing": None, "slice_axis": 2, "normalise": ("volume",), "clip": (None,), "mean": (None,),
        "std": (None,), "classes": 3, "channels": 1, "label_values": (0, 1, 2),
    }  # fmt: skip
    return Recipe(**values | changes)


def ball(shape=SHAPE, spacing=SPACING):
    """Return a label: class 2 within class 1 within background, round in mm."""
    axes = [(np.arange(n) - n / 2) * s for n, s in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    radius = np.linalg.norm(grid, axis=0)
    return (radius < 9).astype(np.uint8) + (radius < 5)


def write_scan(folder, array, spacing=SPACING, *, orientation="RAS", name="scan"):
    """Write a canonical array in a file of another orientation, without changing where any voxel lies."""
    image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
    codes = nib.orientations.axcodes2ornt(orientation)
    path = folder / f"{name}_{orientation}.nii.gz"
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), codes)), path)
    return path


def scan_and_label(folder, orientation="RAS"):
    label = ball()
    image = label * 50 + np.random.default_rng(0).normal(20, 3, SHAPE)
    image[:3] = image[:, -2:] = 0  # a border of zeros, to be cropped
    return (
        read_image([write_scan(folder, image.astype(np.float32), orientation=orientation)]),
        read_label(write_scan(folder, label, orientation=orientation, name="label")),
    )


def one_hot(label, classes=3):
    return (label == np.arange(classes).reshape(-1, 1, 1, 1)).astype(np.float32)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


RECIPES = {
    "as it is": {},
    "finer": {"spacing": (0.7, 0.7, 0.7)},
    "2D": {"dims": 2, "slice_axis": 1},
    "2D finer in plane": {"dims": 2, "slice_axis": 0, "spacing": (9.0, 0.8, 1.1)},
    "2D resized": {"dims": 2, "slice_axis": 2, "resize": (48, 32)},
    "boxed": {"boxes": {"case": (2, 0, 1, 22, 17, 13)}, "spacing": (1.0, 1.0, 1.0)},
}


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_a_label_finds_its_way_back(tmp_path, changes):
    recipe = recipe_for(**changes)
    volume, label = scan_and_label(tmp_path)
    image, geometry = prepare_image(volume, recipe, case="case")
    prepared = prepare_label(label, geometry, recipe)
    assert prepared.shape == image.shape[1:]
    restored = restore_probabilities(one_hot(prepared), geometry)
    assert restored.shape == (3, *SHAPE)
    np.testing.assert_allclose(restored.sum(0), 1, atol=1e-5)
    truth = np.zeros(SHAPE, np.uint8)
    truth[geometry.crop] = label.array[geometry.crop]
    floor = 1 if changes.get("spacing") is None and "resize" not in changes else 0.95
    for index in (1, 2):
        assert dice(restored.argmax(0) == index, truth == index) >= floor


@pytest.mark.parametrize("changes", [RECIPES["finer"], RECIPES["2D finer in plane"]], ids=["3D", "2D"])
@pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIL"])
def test_how_a_file_stores_its_axes_changes_nothing(tmp_path, changes, orientation):
    recipe = recipe_for(**changes)
    volume, label = scan_and_label(tmp_path)
    turned, turned_label = scan_and_label(tmp_path, orientation)
    image, geometry = prepare_image(volume, recipe)
    other, other_geometry = prepare_image(turned, recipe)
    assert other_geometry == geometry
    np.testing.assert_array_equal(other, image)
    np.testing.assert_array_equal(prepare_label(turned_label, geometry, recipe), prepare_label(label, geometry, recipe))


def test_the_slice_axis_is_stored_first_and_moved_back(tmp_path):
    recipe = recipe_for(dims=2, slice_axis=1)
    volume, _ = scan_and_label(tmp_path)
    image, geometry = prepare_image(volume, recipe)
    assert geometry.axes == (1, 0, 2)
    assert image.shape == (1, 15, 19, 14)
    assert geometry.spacing == (1.5, 1.0, 2.5)
    crop = volume.array[:, 3:, :-2]
    np.testing.assert_allclose(image, ((crop - crop.mean()) / crop.std()).transpose(0, 2, 1, 3), atol=1e-5)
    full = restore_probabilities(np.repeat(image, 2, 0), geometry)
    np.testing.assert_array_equal(full[1, 3:, :-2], image[0].transpose(1, 0, 2))
    assert (full[0, :3] == 1).all()
    assert not full[1, :3].any()


def test_prepared_spacing_is_exactly_the_recipes(tmp_path):
    volume, _ = scan_and_label(tmp_path)
    _, geometry = prepare_image(volume, recipe_for(spacing=(0.7, 0.9, 1.1)))
    np.testing.assert_allclose(geometry.spacing, (0.7, 0.9, 1.1), rtol=1e-12)
    assert geometry.lengths == (round(19 / 0.7), round(15 * 1.5 / 0.9), round(14 * 2.5 / 1.1))


@pytest.mark.parametrize(("thickness", "nearest"), [(2.9, False), (3.1, True)])
def test_thick_slices_are_repeated_not_mixed(tmp_path, thickness, nearest):
    array = np.random.default_rng(0).integers(1, 200, (6, 5, 4)).astype(np.float32)
    volume = read_image([write_scan(tmp_path, array, (1.0, 1.0, thickness))])
    fixed = {"normalise": ("foreground",), "mean": (0.0,), "std": (1.0,)}
    image, _ = prepare_image(volume, recipe_for(spacing=(1.0, 1.0, 1.0), **fixed))
    assert set(image.ravel()).issubset(set(array.ravel())) == nearest


def test_intensities_are_clipped_then_scaled(tmp_path):
    array = np.linspace(-50, 500, 60, dtype=np.float32).reshape(5, 4, 3)
    volume = read_image([write_scan(tmp_path, array)])
    clip = {"clip": ((0.0, 300.0),)}
    image, _ = prepare_image(volume, recipe_for(normalise=("foreground",), mean=(100.0,), std=(50.0,), **clip))
    np.testing.assert_allclose(image[0], (array.clip(0, 300) - 100) / 50, rtol=1e-5, atol=1e-6)
    image, _ = prepare_image(volume, recipe_for(**clip))
    np.testing.assert_allclose([image.mean(), image.std()], [0, 1], atol=1e-5)
    constant = replace(volume, array=np.full_like(volume.array, 7))
    np.testing.assert_allclose(prepare_image(constant, recipe_for(spacing=(0.7, 0.7, 0.7)))[0], 0, atol=1e-5)


def test_a_resize_by_a_hair_still_has_the_size_asked_for(tmp_path):
    volume = read_image([write_scan(tmp_path, np.random.default_rng(0).random((2001, 4, 2), np.float32))])
    image, geometry = prepare_image(volume, recipe_for(dims=2, resize=(2000, 4)))
    assert image.shape == (1, 2, 2000, 4)
    assert restore_probabilities(image.repeat(2, 0), geometry).shape == (2, 2001, 4, 2)


def test_a_label_is_resampled_class_by_class(tmp_path):
    """Between background and class 2 lies no class 1, as it would if values were interpolated."""
    array = np.zeros((8, 8, 8), np.uint8)
    array[4:] = 7
    array[:, :2] = 9  # ignored
    volume = read_image([write_scan(tmp_path, np.ones((8, 8, 8), np.float32), (1.0, 1.0, 1.0))])
    label = read_label(write_scan(tmp_path, array, (1.0, 1.0, 1.0), name="label"))
    recipe = recipe_for(spacing=(0.3, 0.3, 0.3), label_values=(0, 3, 7), ignore=9)
    _, geometry = prepare_image(volume, recipe)
    prepared = prepare_label(label, geometry, recipe)
    assert set(np.unique(prepared)) == {0, 2, IGNORE}
    np.testing.assert_allclose((prepared == IGNORE).mean(), 2 / 8, atol=0.03)


def test_faulty_scans_are_refused_by_name(tmp_path):
    volume, label = scan_and_label(tmp_path)
    _, geometry = prepare_image(volume, recipe_for())
    two = recipe_for(channels=2, normalise=("volume",) * 2, clip=(None,) * 2, mean=(None,) * 2, std=(None,) * 2)
    with pytest.raises(DatasetError, match=r"scan_RAS.*1 channels, expected 2"):
        prepare_image(volume, two)
    with pytest.raises(DatasetError, match="infinite"):
        prepare_image(replace(volume, array=np.where(volume.array > 60, np.nan, volume.array)), recipe_for())
    with pytest.raises(GeometryError, match=r"'case'.*box"):
        prepare_image(volume, recipe_for(boxes={"case": (0, 0, 0, 23, 17, 14)}), case="case")
    with pytest.raises(DatasetError, match=r"label_RAS.*values \[2\]"):
        prepare_label(label, geometry, recipe_for(classes=2, label_values=(0, 1)))
    with pytest.raises(GeometryError, match="label_RAS"):
        prepare_label(replace(label, array=label.array[1:]), geometry, recipe_for())
    with pytest.raises(GeometryError, match="probabilities"):
        restore_probabilities(np.zeros((3, *SHAPE)), geometry)


@pytest.fixture
def toy(tmp_path):
    dataset = read_dataset(write_toy_dataset(tmp_path / "data", cases=6, unlabelled=2, classes=3, shape=(12, 10, 8)))
    return dataset, make_split(dataset, labelled=2, held_out=1)


def test_cases_come_from_the_cache_as_they_were_made(toy, tmp_path, monkeypatch):
    dataset, split = toy
    done = []
    first = prepare_dataset(
        dataset, split, recipe_for(), tmp_path / "cache", progress=lambda *state: done.append(state),
        targets=frozenset({"distances"}),
    )  # fmt: skip
    assert done == [(name, place, 5) for place, name in enumerate(split.pool, 1)]
    monkeypatch.setattr(preparation, "read_image", None)
    monkeypatch.setattr(preparation, "read_label", None)
    again = prepare_dataset(dataset, split, recipe_for(), tmp_path / "cache", targets=frozenset({"distances"}))
    for name in split.labelled:
        for field in ("image", "label", "foreground", "distances", "largest"):
            np.testing.assert_array_equal(getattr(first[name], field), getattr(again[name], field))
        np.testing.assert_array_equal(again[name].largest, np.max(again[name].distances, axis=(2, 3, 4)))
        classes = again[name].label[tuple(again[name].foreground.T)]
        np.testing.assert_array_equal(np.bincount(classes, minlength=3)[1:], np.bincount(again[name].label.ravel())[1:])
    for name in split.unlabelled:
        assert again[name].label is again[name].distances is again[name].foreground is again[name].largest is None
    assert not again["case_00"].image.flags.owndata
    assert again["case_00"].image.dtype == np.float32


def test_a_changed_file_or_recipe_is_prepared_again(toy, tmp_path):
    dataset, split = toy
    before = prepare_dataset(dataset, split, recipe_for(), tmp_path / "cache")
    path = dataset.case("case_00").images[0]
    nib.save(nib.Nifti1Image(nib.load(path).get_fdata()[::-1].astype(np.float32), nib.load(path).affine), path)
    after = prepare_dataset(dataset, split, recipe_for(), tmp_path / "cache")
    assert before["case_00"].content != after["case_00"].content
    np.testing.assert_allclose(before["case_00"].image[:, ::-1], after["case_00"].image, atol=1e-5)
    entries = len(list((tmp_path / "cache").iterdir()))
    prepare_dataset(dataset, split, recipe_for(spacing=(2.0, 2.0, 2.0)), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == entries + 5 + 2  # images and labels
    prepare_dataset(dataset, split, recipe_for(boxes={"case_05": (0, 0, 0, 6, 6, 6)}), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == entries + 5 + 2 + 1  # only whose box it is


def test_a_copy_of_a_held_out_scan_is_refused(toy, tmp_path):
    dataset, split = toy
    (held_out,) = split.held_out
    copy = dataset.case(split.unlabelled[-1]).images[0]
    copy.write_bytes(dataset.case(held_out).images[0].read_bytes())
    with pytest.raises(DatasetError, match=f"'{split.unlabelled[-1]}'.*{held_out}"):
        prepare_dataset(dataset, split, recipe_for(), tmp_path / "cache")


def test_what_cannot_be_prepared_is_refused(toy, tmp_path, monkeypatch):
    dataset, split = toy
    with pytest.raises(ConfigError, match="data folder"):
        prepare_dataset(dataset, split, recipe_for(), dataset.folder / "cache")
    with pytest.raises(ConfigError, match="'colours'"):
        prepare_dataset(dataset, split, recipe_for(), tmp_path / "cache", targets=frozenset({"colours"}))
    prepare_dataset(dataset, split, recipe_for(), tmp_path / "cache", targets=frozenset({"labelled_halves"}))
    without = replace(split, labelled=split.unlabelled[-1:], unlabelled=split.labelled)
    with pytest.raises(DatasetError, match="labelsTr"):
        prepare_dataset(dataset, without, recipe_for(), tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file/cache"):
        prepare_dataset(dataset, split, recipe_for(), tmp_path / "file" / "cache")


LISTEN = """
import json, sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, values: opened.append(str(values[0])) if event == "open" else None)
from semivox.data.dataset import read_dataset
from semivox.data.preparation import Recipe, prepare_dataset
from semivox.data.splitting import read_split
data, split, recipe, cache = sys.argv[1:]
prepare_dataset(read_dataset(Path(data)), read_split(Path(split)), Recipe.from_json(json.loads(recipe)), Path(cache))
print(json.dumps([path for path in opened if path.startswith(data)]))
"""


def test_only_the_pools_images_and_the_labelled_cases_labels_are_opened(toy, tmp_path):
    dataset, split = toy
    write_split(split, tmp_path / "split.json")
    for name in (*split.unlabelled, *split.held_out):
        if (label := dataset.case(name).label) is not None:
            label.write_bytes(b"no image")
    for name in split.held_out:
        dataset.case(name).images[0].write_bytes(b"no image")
    recipe = json.dumps(recipe_for().to_json())
    arguments = [str(dataset.folder), str(tmp_path / "split.json"), recipe, str(tmp_path / "cache")]
    result = subprocess.run([sys.executable, "-c", LISTEN, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    allowed = {str(path) for name in split.pool for path in dataset.case(name).images}
    allowed |= {str(dataset.case(name).label) for name in split.labelled}
    opened = set(json.loads(result.stdout)) - {str(dataset.folder / "dataset.json")}
    assert {path for path in opened if Path(path).is_file()} == allowed
