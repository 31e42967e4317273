"""What the phantom is made of: the voxel grid with smooth random fields, and signed distances to balls and tubes."""

import numpy as np
from scipy import ndimage


class Field:
    """The voxel grid in mm, and smooth random fields on it."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, ...]) -> None:
        self.rng, self.shape, self.spacing = rng, shape, np.array(spacing)
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
        self.points: np.ndarray = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def smooth(self, correlation: float, size: float) -> np.ndarray:
        """Return a random field (X, Y, Z) of standard deviation `size`, smooth over `correlation` mm."""
        spectrum = np.fft.rfftn(self.rng.standard_normal(self.shape))
        blurred = ndimage.fourier_gaussian(spectrum, correlation / self.spacing, n=self.shape[-1])
        noise = np.fft.irfftn(blurred, s=self.shape, axes=(0, 1, 2))
        return noise * (size / noise.std())


def ellipsoid_distance(points: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the signed distance in mm to an ellipsoid, to first order (exact for a ball's surface)."""
    offset = (points - centre) / radii
    reach = np.linalg.norm(offset, axis=-1)
    slope = np.linalg.norm(offset / radii, axis=-1)
    return reach * (reach - 1.0) / np.maximum(slope, 1e-6)


def tube_distance(points: np.ndarray, path: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the signed distance in mm to the union of balls along a centre line (N, 3) of radii (N,)."""
    flat = points.reshape(-1, 3)
    squares = (flat**2).sum(1)
    distance = np.full(len(flat), np.inf)
    for centre, r in zip(path, radius, strict=True):
        apart = squares + centre @ centre - flat @ (2 * centre)
        np.minimum(distance, np.sqrt(np.maximum(apart, 0.0)) - r, out=distance)
    return distance.reshape(points.shape[:-1])


def soft_minimum(a: np.ndarray, b: np.ndarray, *, width: float = 1.5) -> np.ndarray:
    """Return the union of two signed distances with its crease filled over about `width` mm."""
    return -width * np.logaddexp(-a / width, -b / width)
