"""From scan to mask: a known net and a trained one give every copy of a scan the same mask, in its own grid."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.spatial.transform import Rotation

import thresholding
from scans import SPACING, affine_of, save, save_itk, values_of
from semivox.data.dataset import read_dataset
from semivox.data.phantom import phantom_scan, write_phantom
from semivox.data.splitting import make_split
from semivox.prediction.files import predict
from semivox.training.start import train

SHAPE = (32, 32, 16)
CODES = ("LPS", "SRA", "AIL", "PSR")
OVERFIT = """
steps = 120
batch_labelled = 1
patch = [32, 32, 16]
net = { filters = 4, levels = 3, dropout = 0.0 }
method = { geometry = "none", intensity = "none", optimizer = "adamw", lr = 0.01 }
"""


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image (X, Y, Z) in which a threshold finds the chamber, and the chamber."""
    label = phantom_scan(0, 0, (48, 48, 33), (1.7, 1.7, 2.5))[1]
    noise = np.random.default_rng(0).normal(0, 20, label.shape)
    return (100.0 * label + noise).astype(np.float32), label


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Return a net overfitted to one scan, the scan and its label; data and cache are gone, and the run has moved."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_phantom(folder / "data", labelled=1, unlabelled=0, held_out=1, shape=SHAPE, spacing=SPACING)
    dataset = read_dataset(data)
    (folder / "overfit.toml").write_text(OVERFIT)  # a config of its own, so that no plan decides anything
    outcome = train(
        data,
        output=folder / "run",
        method="supervised",
        split=make_split(dataset, labelled=1, held_out=1),
        config=str(folder / "overfit.toml"),
        cache=folder / "cache",
        device="cpu",
    )
    case = dataset.case(dataset.labelled[0])
    image, label = values_of(case.images[0]), values_of(case.label)
    moved = shutil.move(outcome.run, tmp_path_factory.mktemp("elsewhere") / "moved")
    shutil.rmtree(data)
    shutil.rmtree(folder / "cache")
    return Path(moved), image, label


def copies(image: np.ndarray, folder: Path) -> list[Path]:
    """Write copies of one scan that differ in order of axes, direction, format and noise of the header."""
    oblique = affine_of(SPACING, Rotation.from_euler("xyz", (11, -24, 17), degrees=True).as_matrix())
    # 33 slices of 5 mm are 82.5 of 2 mm: what a header adds must not decide on 82 or 83
    jitter = affine_of(tuple(side + 4e-5 for side in SPACING))
    return [
        save(image, folder / "plain_0000.nii.gz"),
        *(save(image, folder / f"{code.lower()}_0000.nii", code=code) for code in CODES),
        save(image, folder / "oblique_0000.nii.gz", oblique),
        save(image, folder / "oblique-ail_0000.nii.gz", oblique, "AIL"),
        save(image, folder / "jitter_0000.nii.gz", jitter),
        save_itk(image, folder / "nrrd_0000.nrrd"),
        save_itk(image, folder / "mha_0000.mha"),
    ]


@pytest.mark.parametrize("net", ["threshold", "threshold in 2D", "trained"])
def test_copies_in_other_orders_directions_and_formats_get_the_same_mask_in_their_own_grid(
    net, request, phantom, tmp_path
):
    if net == "trained":
        run, image, label = request.getfixturevalue("trained")
    else:
        flat = {"dims": 2, "slice_axis": 2, "patch": (24, 16)} if "2D" in net else {}
        run = thresholding.write_run(tmp_path / "run", settings={"spacing": (2.0, 2.2, 2.0), **flat})
        image, label = phantom
    files = copies(image, tmp_path / "scans")
    masks = predict([run], [tmp_path / "scans"], output=tmp_path / "masks", device="cpu")
    by_name = {path.name: path for path in masks}
    expected = values_of(by_name["plain.nii.gz"])
    assert dice(expected > 0, label > 0) >= 0.8
    for file in files:
        mask = by_name[file.name.replace("_0000", "")]
        if file.suffix in (".nrrd", ".mha"):
            scan, found = SimpleITK.ReadImage(str(file)), SimpleITK.ReadImage(str(mask))
            for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
                assert_allclose(getattr(found, what)(), getattr(scan, what)(), rtol=1e-9, err_msg=file.name)
            assert_array_equal(SimpleITK.GetArrayFromImage(found).transpose(2, 1, 0)[::-1, ::-1], expected)
        else:
            scan, found = nib.load(file), nib.load(mask)
            assert found.shape == scan.shape
            assert_array_equal(found.affine, scan.affine)
            assert nib.aff2axcodes(found.affine) == nib.aff2axcodes(scan.affine)
            assert_array_equal(values_of(mask), expected, err_msg=file.name)


def test_slices_three_times_as_thick_cost_no_more_than_the_way_to_their_grid_and_back(phantom, tmp_path):
    image, label = phantom
    run = thresholding.write_run(tmp_path / "run", settings={"spacing": (1.7, 1.7, 2.5)})

    def thick(values: np.ndarray) -> np.ndarray:
        return values.reshape(*values.shape[:2], -1, 3).mean(-1)

    affine = affine_of((1.7, 1.7, 7.5))
    scan = save(thick(image), tmp_path / "thick.nii.gz", affine)
    (mask,) = predict([run], [scan], output=tmp_path / "masks", device="cpu")
    there = thick(label.astype(np.float32))
    back = ndimage.zoom(there, (1, 1, 3), order=1, mode="nearest", grid_mode=True)
    ceiling = dice(back >= 0.5, label > 0)
    assert 0.8 < ceiling < 1
    assert nib.load(mask).shape == there.shape
    assert dice(values_of(mask) > 0, there >= 0.5) >= ceiling - 0.02
