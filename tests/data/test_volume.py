"""Volumes: canonical axes, each file's own grid on the way out, hashes, readable refusals."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal

from semivox.data import volume
from semivox.data.formats import read_raw
from semivox.data.volume import (
    bare_name,
    content_hash,
    disagreements,
    read_header,
    read_image,
    read_label,
    write_maps,
    write_mask,
)
from semivox.errors import DatasetError, GeometryError, RunError

VALUES = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
OBLIQUE = np.array([[1.9, 0.1, 0.0, -7.0], [-0.1, 1.2, 0.1, 8.0], [0.0, -0.1, 3.0, 9.0], [0, 0, 0, 1]])
CODES = ["RAS", "LPS", "SRA", "AIL", "PSR"]


def stored(values: np.ndarray, affine: np.ndarray, code: str, path: Path) -> Path:
    """Save one RAS+ scan in another order of its axes."""
    image = nib.Nifti1Image(values, affine)
    axes = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(code))
    )
    nib.save(image.as_reoriented(axes), path)
    return path


@pytest.mark.parametrize("code", CODES)
def test_flipped_and_permuted_copies_are_the_same_volume_bit_for_bit(code, tmp_path):
    path = stored(VALUES, OBLIQUE, code, tmp_path / "scan.nii.gz")
    volume, header = read_image([path]), read_header(path)
    assert_array_equal(volume.array, VALUES[None])
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert_allclose(volume.affine, OBLIQUE, atol=1e-5)
    assert volume.spacing == header.spacing == (1.9026, 1.2083, 3.0017)
    assert header.shape == volume.shape == (4, 5, 6)
    assert not disagreements(volume, header)


@pytest.mark.parametrize("code", CODES)
def test_a_mask_lands_in_the_files_own_grid(code, tmp_path):
    mask = (VALUES > 0.5).astype(np.int64) * 2
    path = stored(VALUES, OBLIQUE, code, tmp_path / "scan.nii.gz")
    write_mask(mask, read_image([path]), tmp_path / "mask.nii.gz")
    original, written = nib.load(path), nib.load(tmp_path / "mask.nii.gz")
    assert_array_equal(written.affine, original.affine)
    assert_array_equal(np.asarray(written.dataobj), (np.asarray(original.dataobj) > 0.5) * 2)
    assert written.get_data_dtype() == np.uint8
    assert written.header["sform_code"] == original.header["sform_code"]
    assert_array_equal(read_label(tmp_path / "mask.nii.gz").array, mask)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_an_itk_file_goes_from_lps_to_ras_and_back(ending, tmp_path):
    image = SimpleITK.GetImageFromArray(VALUES.transpose(2, 1, 0))
    image.SetSpacing((0.5, 1.5, 3.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    path = tmp_path / f"scan{ending}"
    SimpleITK.WriteImage(image, str(path))
    volume, header = read_image([path]), read_header(path)
    assert header.shape == volume.shape == (5, 4, 6)
    assert header.spacing == volume.spacing == (1.5, 0.5, 3.0)
    # ITK's own arithmetic says where a voxel lies in LPS; ours must say the same in RAS.
    for index in [(0, 0, 0), (3, 1, 5)]:
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        canonical = np.linalg.solve(volume.affine, [-left, -posterior, superior, 1.0])[:3]
        assert volume.array[(0, *np.rint(canonical).astype(int))] == VALUES[index]
    write_mask((volume.array[0] > 0).astype(np.uint8), volume, tmp_path / f"mask{ending}")
    mask = SimpleITK.ReadImage(str(tmp_path / f"mask{ending}"))
    assert_array_equal(SimpleITK.GetArrayFromImage(mask), (VALUES > 0).transpose(2, 1, 0))
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert_allclose(getattr(mask, name)(), getattr(image, name)(), rtol=0, atol=1e-12)


def test_nifti_and_nrrd_copies_of_a_scan_agree(tmp_path):
    turned = np.diag([0.0, 0.0, 3.0, 1.0])
    turned[:2, :2] = np.array([[0.8, -0.6], [0.6, 0.8]]) * [1.5, 2.0]
    turned[:3, 3] = -7, 8, 9
    nib.save(nib.Nifti1Image(VALUES, turned), tmp_path / "a.nii")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / "b.nrrd"))
    nifti, nrrd = read_image([tmp_path / "a.nii"]), read_image([tmp_path / "b.nrrd"])
    assert content_hash(nifti.array) == content_hash(nrrd.array)
    assert_allclose(nifti.affine, nrrd.affine, atol=1e-5)


def test_channels_come_from_one_file_each_or_from_one_file_with_all(tmp_path):
    both = np.stack([VALUES, VALUES + 1], -1)
    nib.save(nib.Nifti1Image(both, OBLIQUE), tmp_path / "all.nii.gz")
    nib.save(nib.Nifti1Image(both[..., None, :], OBLIQUE), tmp_path / "vector.nii.gz")
    vector = SimpleITK.GetImageFromArray(both.transpose(2, 1, 0, 3), isVector=True)
    SimpleITK.WriteImage(vector, str(tmp_path / "all.nrrd"))
    paths = [tmp_path / f"one_{channel:04d}.nii.gz" for channel in range(2)]
    for channel, path in enumerate(paths):
        nib.save(nib.Nifti1Image(both[..., channel], OBLIQUE), path)
    expected = both.transpose(3, 0, 1, 2)
    for given in (paths, [tmp_path / "all.nii.gz"], [tmp_path / "vector.nii.gz"]):
        assert_array_equal(read_image(given).array, expected)
    assert read_header(tmp_path / "all.nrrd").channels == 2
    assert_array_equal(read_image([tmp_path / "all.nrrd"]).array, np.flip(expected, (1, 2)))
    with pytest.raises(DatasetError, match=r"all\.nii\.gz: found 2 channels .* expected one channel per file"):
        read_image([tmp_path / "all.nii.gz", tmp_path / "all.nii.gz"])


def test_channels_on_different_grids_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a_0000.nii.gz")
    nib.save(nib.Nifti1Image(VALUES, np.diag([1, 1, 2, 1])), tmp_path / "a_0001.nii.gz")
    with pytest.raises(GeometryError, match=r"a_0001.*spacing in mm.*found \[1\.0, 1\.0, 2\.0\].*resample"):
        read_image([tmp_path / "a_0000.nii.gz", tmp_path / "a_0001.nii.gz"])


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_maps_are_float32_with_the_classes_last(ending, tmp_path):
    path = stored(VALUES, OBLIQUE, "LPS", tmp_path / "scan.nii.gz")
    volume = read_image([path])
    write_maps(np.stack([VALUES, -VALUES]), volume, tmp_path / f"maps{ending}")
    back = read_image([tmp_path / f"maps{ending}"])
    assert_array_equal(back.array, np.stack([VALUES, -VALUES]))
    assert_allclose(back.affine, volume.affine, atol=1e-4)


def test_labels_with_whole_numbers_in_float_files_become_integers(tmp_path):
    values = np.array([0, 1, 2.0004], np.float32).reshape(3, 1, 1)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "whole.nii.gz")
    label = read_label(tmp_path / "whole.nii.gz").array
    assert_array_equal(label.ravel(), [0, 1, 2])
    assert label.dtype == np.int16
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), 70_000, np.int32), np.eye(4)), tmp_path / "large.nii.gz")
    assert read_label(tmp_path / "large.nii.gz").array.dtype == np.int32


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e12])
def test_labels_with_other_numbers_are_refused(value, tmp_path):
    values = np.zeros((3, 3, 3))
    values[0, 0, 0] = value
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "label.nii.gz")
    with pytest.raises(DatasetError, match=r"label\.nii\.gz: found 1 voxels .*nearest neighbour"):
        read_label(tmp_path / "label.nii.gz")


@pytest.mark.parametrize(
    ("highest", "lowest", "kind"), [(255, 0, np.uint8), (256, 0, np.int16), (3, -1, np.int16), (40_000, 0, np.int32)]
)
def test_masks_take_the_smallest_type_that_holds_their_values(highest, lowest, kind, tmp_path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "scan.nii")
    mask = np.full(VALUES.shape, lowest)
    mask[0, 0, 0] = highest
    write_mask(mask, read_image([tmp_path / "scan.nii"]), tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").get_data_dtype() == kind
    assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii").dataobj), mask)


def test_scaling_and_private_text_of_the_source_do_not_reach_the_mask(tmp_path):
    image = nib.Nifti1Image((VALUES * 100).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    image.header["descrip"] = b"Jane Doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nib.save(image, tmp_path / "scan.nii")
    volume = read_image([tmp_path / "scan.nii"])
    write_mask(np.ones(VALUES.shape, np.uint8), volume, tmp_path / "mask.nii")
    assert b"Jane" not in (tmp_path / "mask.nii").read_bytes()
    assert np.unique(nib.load(tmp_path / "mask.nii").get_fdata()) == [1]


def test_nothing_half_written_stays_when_writing_fails(disk_error, tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "scan.nii.gz")
    volume = read_image([tmp_path / "scan.nii.gz"])

    def fail(image: nib.Nifti1Image, path: Path) -> None:
        path.write_bytes(b"half")
        raise disk_error

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(RunError, match=rf"cannot write .*out/mask\.nii\.gz: .*{disk_error.strerror}"):
        write_mask(np.ones(VALUES.shape, np.uint8), volume, tmp_path / "out" / "mask.nii.gz")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mask_of_another_shape_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "scan.nii.gz")
    with pytest.raises(GeometryError, match=r"found values of shape \(2, 2, 2\), expected \(4, 5, 6\)"):
        write_mask(np.ones((2, 2, 2)), read_image([tmp_path / "scan.nii.gz"]), tmp_path / "mask.nii.gz")


def test_copies_hash_the_same_whatever_their_type_and_others_differently():
    whole = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4)
    assert content_hash(whole) == content_hash(whole.astype(np.float64))
    assert content_hash(np.zeros((1, 2, 2, 2))) == content_hash(-np.zeros((1, 2, 2, 2)))
    assert content_hash(whole) != content_hash(whole.reshape(1, 3, 2, 4))
    assert content_hash(whole) != content_hash(whole[:, ::-1])


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"shape": (4, 5, 7)}, "shape"),
        ({"scale": 1.002}, "spacing in mm"),
        ({"shift": 0.02}, "origin in mm"),
        ({"turn": 0.002}, "direction"),
    ],
)
def test_grids_differ_beyond_the_stated_tolerances_and_not_within(changed, what, tmp_path):
    def header(name: str, shape=(4, 5, 6), scale=1.0, shift=0.0, turn=0.0):
        affine = np.diag([1.0, 1.0, scale, 1.0])
        affine[0, 3], affine[1, 0] = shift, turn
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine), tmp_path / name)
        return read_header(tmp_path / name)

    reference = header("a.nii")
    assert [found[0] for found in disagreements(header("b.nii", **changed), reference)] == [what]
    assert disagreements(header("c.nii", scale=1.001, shift=0.009, turn=0.0009), reference) == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_truncated_file_is_refused_by_name(ending, tmp_path):
    path = tmp_path / f"scan{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(path))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=rf"scan{ending}: found an unreadable or truncated file .*copy it again"):
        read_image([path])


def test_files_that_are_no_scans_are_refused_by_name(tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"no image")
    (tmp_path / "scan.txt").write_bytes(b"no image")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 2, 2), np.uint8), np.eye(4)), tmp_path / "five.nii")
    for name, words in [("scan.nii", "unreadable"), ("scan.txt", "unknown format"), ("gone.nii", "no such file"),
                        ("five.nii", "three axes")]:  # fmt: skip
        with pytest.raises(DatasetError, match=rf"{name}: found .*{words}"):
            read_header(tmp_path / name)


def test_an_affine_that_says_nothing_is_refused(tmp_path):
    image = nib.Nifti1Image(VALUES, None)
    image.header["sform_code"] = 1
    image.header["srow_x"] = image.header["srow_y"] = 0
    nib.save(image, tmp_path / "flat.nii")
    path = tmp_path / "flat.nii"
    raw = bytearray(path.read_bytes())
    raw[254:256] = np.int16(1).tobytes()  # sform_code, which saving without an affine resets
    path.write_bytes(raw)
    with pytest.raises(GeometryError, match=r"flat\.nii: found the affine .* expected three independent axes"):
        read_header(path)


def test_bare_names_lose_folder_and_ending_only():
    assert [bare_name(Path(name)) for name in ("a/b.c_0000.nii.gz", "x.MHA", "y.txt")] == ["b.c_0000", "x", "y.txt"]


def test_a_header_is_read_once_until_its_file_changes(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(volume, "read_raw", lambda path, **words: opened.append(path) or read_raw(path, **words))
    path = tmp_path / "scan.nii.gz"
    for shape in ((3, 4, 5), (5, 4, 3)):
        nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
        os.utime(path, ns=(0, shape[0]))  # a clock may be too coarse to tell the two apart
        assert [read_header(path).shape for _ in range(3)] == [shape] * 3
    assert opened == [path, path]
    path.unlink()
    with pytest.raises(DatasetError, match="scan"):
        read_header(path)


def test_a_header_cannot_be_changed_by_who_reads_it(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "scan.nii")
    with pytest.raises(ValueError, match="read-only"):
        read_header(tmp_path / "scan.nii").affine[0, 0] = 2
