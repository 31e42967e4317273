"""Orientation: from a file's own axes to those closest to RAS+, by exchanging and flipping them."""

from pathlib import Path

import nibabel as nib
import numpy as np

from semivox.data.formats import RawFile
from semivox.errors import GeometryError

FLAT = 1e-6
"""Axes whose directions span less volume than this lie in a plane."""


def canonical(path: Path, raw: RawFile) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return the orientation (3, 2) that takes file to canonical axes, and the canonical affine and spacing.

    Raises:
        GeometryError: the affine's axes lie in a plane, or have no length.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sides = np.linalg.norm(raw.affine[:3, :3], axis=0)
        independent = np.isfinite(raw.affine).all() and abs(np.linalg.det(raw.affine[:3, :3] / sides)) > FLAT
    if not independent:
        raise GeometryError(
            f"{path}: found the affine {raw.affine.tolist()}, expected three independent axes; write the header anew"
        )
    if not (np.isfinite(sides).all() and sides.round(4).all()):
        raise GeometryError(
            f"{path}: found voxels of {sides.tolist()} mm, expected sides of at least 0.0001; write the header anew"
        )
    axes = nib.orientations.io_orientation(raw.affine).astype(int)
    affine = raw.affine @ nib.orientations.inv_ornt_aff(axes, raw.shape)
    spacing = tuple(round(float(side), 4) for side in np.linalg.norm(affine[:3, :3], axis=0))
    return axes, affine, spacing
