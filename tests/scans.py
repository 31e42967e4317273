"""Scans as files in any order of axes, direction and format, and back to values."""

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

SPACING = (2.5, 2.5, 5.0)


def affine_of(spacing: tuple[float, ...], turn: np.ndarray | None = None) -> np.ndarray:
    """Return an RAS+ affine with an origin off zero, turned by a rotation (3, 3)."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * np.array(spacing)
    affine[:3, 3] = -70.0, 12.5, 30.0
    return affine


def save(values: np.ndarray, path: Path, affine: np.ndarray | None = None, code: str = "RAS") -> Path:
    """Write an array that is RAS+ in the order of axes that `code` names."""
    image = nib.Nifti1Image(values, affine_of(SPACING) if affine is None else affine)
    start = nib.io_orientation(image.affine)
    axes = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(code)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(axes), path)
    return path


def save_itk(values: np.ndarray, path: Path) -> Path:
    """Write the same scan as `save` does, by ITK, whose first two axes run the other way."""
    image = SimpleITK.GetImageFromArray(values[::-1, ::-1].transpose(2, 1, 0))
    image.SetSpacing(SPACING)
    far = affine_of(SPACING) @ [values.shape[0] - 1, values.shape[1] - 1, 0, 1]
    image.SetOrigin((-far[0], -far[1], far[2]))
    SimpleITK.WriteImage(image, str(path))
    return path


def values_of(path: Path) -> np.ndarray:
    """Return a NIfTI's values as nearest to RAS+ as its axes allow."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
