"""The embedded data set: procedurally made heart scans with a chamber, its veins and neighbours that look alike.

Each scan imitates a contrast-enhanced MR scan of a left atrium: a smooth chamber from which three to six veins
leave, arteries and a second chamber of nearly its intensity that touch it, a bias field, Rician noise, thick slices.
Size, pose, contrast and the number of veins differ between patients; (seed, index, shape, spacing) and the kind of
scan, see `phantom_pool.py`, decide a scan.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from semivox.data.phantom_pool import ANATOMIES, SCANNERS, Anatomy, Scanner, kind_of
from semivox.data.phantom_shapes import Field, ellipsoid_distance, soft_minimum, tube_distance
from semivox.errors import DatasetError, GeometryError

SHAPE = (64, 64, 32)
SPACING = (1.25, 1.25, 2.5)


def write_phantom(
    folder: Path | str,
    *,
    labelled: int = 4,
    unlabelled: int = 20,
    held_out: int = 10,
    seed: int = 0,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
) -> Path:
    """Write an nnU-Net folder of phantom scans and return it; a folder that already holds just these is left as it is.

    In sorted order come the labelled scans, the unlabelled ones (`imagesUn`, without any label file) and the held-out
    ones, so that the first N and the last N of the labelled names are the usual split. As in real pools, the labelled
    ones come from some of the scanners and have the usual anatomy; dataset.json says what each scan is.

    Args:
        folder: a new or empty folder.
        labelled: scans with a label, to train on.
        unlabelled: scans without a label.
        held_out: scans with a label, to test on.
        seed: another seed, other patients.
        shape: voxels (x, y, z) of each scan.
        spacing: voxel size (x, y, z) in mm.

    Raises:
        DatasetError: the folder holds something else.
        GeometryError: an axis has fewer than 8 voxels or a spacing is not positive.
    """
    folder = Path(folder)
    check_grid(shape, spacing)
    counts = {"labelled": labelled, "unlabelled": unlabelled, "held_out": held_out}
    description = describe({**counts, "seed": seed, "shape": list(shape), "spacing": list(spacing)})
    if folder.is_dir() and any(folder.iterdir()):
        if read_description(folder) == description:
            return folder
        raise DatasetError(f"{folder} holds something other than this phantom: name a new folder, or empty this one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as parent:
        draft = Path(parent) / "draft"
        for part in ("imagesTr", "labelsTr", "imagesUn"):
            (draft / part).mkdir(parents=True)
        for index in range(labelled + unlabelled + held_out):
            has_label = not labelled <= index < labelled + unlabelled
            write_scan(draft, index, description["phantom"], has_label=has_label)
        (draft / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        os.replace(draft, folder)  # an interrupted write leaves no half a data set
    return folder


def phantom_scan(
    seed: int,
    index: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    *,
    scanner: Scanner = SCANNERS[0],
    anatomy: Anatomy = ANATOMIES[0],
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (X, Y, Z) int16 and label (X, Y, Z) uint8 of one patient, axes to the right, front and head (RAS+).

    Args:
        seed: of the patients.
        index: of the patient.
        shape: voxels (x, y, z).
        spacing: voxel size (x, y, z) in mm.
        scanner: what the image is drawn with.
        anatomy: what the patient's heart is like.

    Raises:
        GeometryError: an axis has fewer than 8 voxels or a spacing is not positive.
    """
    check_grid(shape, spacing)
    rng = np.random.default_rng([seed, index])
    field = Field(rng, shape, spacing)
    low, high = zip(anatomy.turn, anatomy.dilation, strict=True)
    turn, dilation = np.random.default_rng([seed, index, 2]).uniform(low, high)
    pose = Pose(rng, np.array(shape) * np.array(spacing), turn)
    points = pose.to_patient(field.points)

    chamber = chamber_distance(rng, points, dilation) + field.smooth(correlation=9.0, size=1.2)
    veins = [tube_distance(points, path, radius) for path, radius in vein_paths(rng)]
    vessels = np.minimum.reduce(veins)
    artery, second = neighbour_distances(rng, points, chamber)
    target = soft_minimum(chamber, vessels)
    # as in real labels, a vein belongs to the chamber for about a centimetre beyond its wall
    label = largest_component((target < 0) & (chamber < 11.0))

    image = paint(rng, field, points, (target, artery, second), scanner)
    return degrade(rng, field, image, scanner), label.astype(np.uint8)


class Pose:
    """Where a patient's heart lies in the scan, how it is turned, and how large it is."""

    def __init__(self, rng: np.random.Generator, extent: np.ndarray, turn: float) -> None:
        self.shift = rng.normal(0.0, 0.045, 3) * extent
        self.turn = Rotation.from_euler("xyz", rng.normal([0.0, 0.0, turn], 11.0), degrees=True).as_matrix()
        # anatomy is written for a field of view of 80 mm; other grids hold a larger or smaller heart
        self.scale = rng.uniform(0.8, 1.2, 3) ** [1, 0.5, 0.5] * extent.min() / 80.0

    def to_patient(self, points: np.ndarray) -> np.ndarray:
        """Return the positions of scan points in the frame of the heart, in mm of a heart of average size."""
        return ((points - self.shift) @ self.turn) / self.scale


def chamber_distance(rng: np.random.Generator, points: np.ndarray, dilation: float) -> np.ndarray:
    """Return the signed distance (negative inside) to a flattened ellipsoid with a lobe at its left front."""
    radii = np.array([19.0, 13.5, 15.5]) * rng.uniform(0.88, 1.12, 3) * dilation
    body = ellipsoid_distance(points, np.zeros(3), radii)
    lobe_at = radii * [-0.72, 0.62, 0.05] + rng.normal(0.0, 1.5, 3)
    lobe = ellipsoid_distance(points, lobe_at, np.array([5.5, 7.5, 5.0]) * rng.uniform(0.7, 1.2, 3))
    return soft_minimum(body, lobe, width=2.0)


def vein_paths(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the centre lines (N, 3) in mm and radii (N,) of the veins: two a side, or one trunk, or one more."""
    paths = []
    for side in (-1.0, 1.0):
        kind = rng.choice(["pair", "trunk", "three"], p=[0.6, 0.25, 0.15] if side < 0 else [0.7, 0.05, 0.25])
        heights = {"pair": (8.0, -7.0), "trunk": (7.0, -6.0), "three": (10.0, 1.0, -9.0)}[str(kind)]
        trunk = rng.normal([side * 26.0, -7.0, 0.0], 2.0)
        for height in heights:
            start = np.array([side * 10.0, -3.0, height * 0.75]) + rng.normal(0.0, 1.0, 3)
            middle = trunk if kind == "trunk" else rng.normal([side * 23.0, -7.0, height * 1.3], 2.0)
            end = rng.normal([side * 44.0, -15.0, height * 2.8], 4.0)
            radius = rng.uniform(3.2, 5.0) if kind != "three" else rng.uniform(2.6, 3.8)
            t = np.linspace(0.0, 1.0, 32)[:, None]
            path = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
            paths.append((path, radius * np.linspace(1.15, 0.7, 32)))
    return paths


def neighbour_distances(
    rng: np.random.Generator, points: np.ndarray, chamber: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the signed distances to two arteries and to a second chamber; all may touch the chamber's wall."""
    wall = rng.uniform(0.6, 1.6)
    x, z = rng.normal(7.0, 3.0), np.linspace(-14.0, 60.0, 40)
    y = rng.normal(21.0, 1.5) - 0.004 * (z - rng.normal(0.0, 5.0)) ** 2
    rising = np.stack([np.linspace(x, x + rng.normal(4.0, 3.0), 40), y, z], axis=1)
    x, y = rng.normal([-9.0, -22.5], [3.0, 1.5])
    falling = np.linspace([x - 2.0, y, -60.0], [x + 2.0, y, 60.0], 40)
    arteries = np.minimum(
        tube_distance(points, rising, np.full(40, rng.uniform(7.5, 10.5))),
        tube_distance(points, falling, np.full(40, rng.uniform(6.0, 8.0))),
    )
    centre = rng.normal([24.0, 19.0, -8.0], 3.0)
    second = ellipsoid_distance(points, centre, np.array([14.0, 18.0, 19.0]) * rng.uniform(0.85, 1.15, 3))
    return np.maximum(arteries, wall - chamber), np.maximum(second, wall - chamber)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask (X, Y, Z)."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def paint(
    rng: np.random.Generator,
    field: Field,
    points: np.ndarray,
    surfaces: tuple[np.ndarray, np.ndarray, np.ndarray],
    scanner: Scanner,
) -> np.ndarray:
    """Return the noise-free image (X, Y, Z): tissue laid over tissue, the chamber, arteries and second chamber last."""
    target, artery, second = surfaces
    blood = rng.uniform(0.6, 1.0)
    muscle = blood * rng.uniform(*scanner.muscle)
    lung = rng.uniform(0.05, 0.15)
    fat = rng.uniform(*scanner.fat)
    heart = ellipsoid_distance(points, rng.normal([6.0, 9.0, -5.0], 2.0), np.array([38.0, 36.0, 34.0]))
    spine = tube_distance(points, np.array([[4.0, -36.0, z] for z in range(-60, 61, 4)]), np.full(31, 9.0))
    texture = 1.0 + field.smooth(correlation=3.0, size=0.06)

    image = np.full(field.shape, lung) * (1.0 + field.smooth(correlation=4.0, size=0.3))
    cover = over(image, field.spacing)
    cover(heart, fat * (1.0 + field.smooth(correlation=5.0, size=0.25)))
    cover(spine, rng.uniform(0.3, 0.6) * texture)
    cover(np.minimum.reduce([target, second, artery]) - rng.uniform(1.5, 3.0), muscle * texture)
    cover(second, blood * rng.uniform(0.8, 1.08) * (1.0 + field.smooth(correlation=6.0, size=0.08)))
    cover(artery, blood * rng.uniform(0.85, 1.12) * texture)
    cover(target, blood * texture)
    return image


def over(image: np.ndarray, spacing: np.ndarray) -> Callable[[np.ndarray, np.ndarray | float], None]:
    """Return a function (signed distance, value) that lays a tissue over `image` in place, with a soft edge."""
    edge = float(np.prod(spacing) ** (1 / 3)) / 3

    def cover(distance: np.ndarray, value: np.ndarray | float) -> None:
        share = 0.5 * (1.0 - np.tanh(distance / (2 * edge)))
        image[:] = share * value + (1.0 - share) * image

    return cover


def degrade(rng: np.random.Generator, field: Field, image: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Return the image as a scanner gives it, int16: bias, point spread, Rician noise and the scanner's own units."""
    extent = np.array(field.shape) * field.spacing
    image = image * np.exp(field.smooth(correlation=float(extent.min()) / 4, size=rng.uniform(*scanner.bias)))
    image = ndimage.gaussian_filter(image, scanner.blur / field.spacing[:2], axes=(0, 1)) if scanner.blur else image
    noise = rng.uniform(*scanner.noise) * rng.standard_normal((2, *field.shape))
    magnitude = np.hypot(image + noise[0], noise[1])
    return np.round(magnitude * rng.uniform(250.0, 900.0)).astype(np.int16)


def write_scan(folder: Path, index: int, made: dict[str, Any], *, has_label: bool) -> None:
    """Write one scan, and its label where it has one; every second file is stored towards left and back (LPS)."""
    scanner, anatomy = kind(made, index)
    image, label = phantom_scan(made["seed"], index, made["shape"], made["spacing"], scanner=scanner, anatomy=anatomy)
    affine = np.diag([*made["spacing"], 1.0])
    affine[:3, 3] = np.random.default_rng([made["seed"], index, 1]).uniform(-120.0, 0.0, 3).round(2)
    name = scan_name(index)
    files = [(image, f"imagesTr/{name}_0000.nii.gz" if has_label else f"imagesUn/{name}_0000.nii.gz")]
    if has_label:
        files.append((label, f"labelsTr/{name}.nii.gz"))
    for array, path in files:
        nifti = nibabel.Nifti1Image(array, affine)
        nifti.header.set_xyzt_units("mm")
        if index % 2:
            nifti = nifti.as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))
        nibabel.save(nifti, folder / path)


def scan_name(index: int) -> str:
    """Return the name of a scan's case."""
    return f"phantom_{index:04d}"


def kind(made: dict[str, Any], index: int) -> tuple[Scanner, Anatomy]:
    """Return the scanner and the anatomy of a scan."""
    return kind_of(index, labelled=index < made["labelled"])


def describe(made: dict[str, Any]) -> dict[str, Any]:
    """Return what the folder's dataset.json says: nnU-Net's keys, what made the scans, and each one's kind."""
    count = made["labelled"] + made["unlabelled"] + made["held_out"]
    return {
        "name": "phantom",
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "chamber": 1},
        "numTraining": made["labelled"] + made["held_out"],
        "file_ending": ".nii.gz",
        "phantom": made,
        "kinds": {scan_name(index): ", ".join(part.name for part in kind(made, index)) for index in range(count)},
    }


def read_description(folder: Path) -> object:
    """Return what a folder's dataset.json says, or None where there is none that can be read."""
    try:
        return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_grid(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    """Refuse a grid that no heart fits on."""
    if len(shape) != 3 or len(spacing) != 3 or min(shape) < 8 or not min(spacing) > 0:
        raise GeometryError(
            f"a phantom of shape {tuple(shape)} and spacing {tuple(spacing)} mm cannot be made: "
            "three axes of at least 8 voxels and positive spacings are needed"
        )
