"""Speed of HD95 and ASD against medpy: `python benchmarks/speed/metrics.py`, one thread, one run.

Masks: the last 20 label files of $SEMIVOX_DATA/la2018/labelsTr (SEMIVOX_DATA may also name the data set's own folder);
where there are none, made-up blobs of a similar size. Each truth is scored against itself shifted by (2, 1, 1) voxels
and smoothed (Gaussian, sigma 3, above 0.45): by medpy's `hd95` and `asd` (two calls), and by one `surface_distances`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"

import medpy.metric.binary as medpy
import numpy as np
from scipy.ndimage import gaussian_filter

from semivox.scoring.metrics import asd, hd95, surface_distances

CASES = 20


def truths() -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
    """Yield masks (X, Y, Z) with their spacing in mm: real ones where the data are, made-up ones elsewhere."""
    root = Path(os.environ.get("SEMIVOX_DATA", "."))
    for folder in (root / "labelsTr", root / "la2018" / "labelsTr"):
        if files := sorted(folder.glob("*.nii.gz"))[-CASES:]:
            print(f"{len(files)} scans of {folder}")
            yield from map(read, files)
            return
    print(f"no labelsTr in {root} (set SEMIVOX_DATA): made-up blobs")
    for seed in range(CASES):
        noise = gaussian_filter(np.random.default_rng(seed).standard_normal((180, 140, 88)), 12)
        noise[:20], noise[-20:], noise[:, :30], noise[:, -30:], noise[..., :12], noise[..., -12:] = [-1.0] * 6
        yield noise > np.quantile(noise, 0.95), (0.625, 0.625, 0.625)


def read(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    import nibabel

    file = nibabel.load(path)
    return np.asarray(file.dataobj) > 0, tuple(float(size) for size in file.header.get_zooms()[:3])


def main() -> None:
    ratios, worst = [], 0.0
    for truth, spacing in truths():
        prediction = gaussian_filter(np.roll(truth, (2, 1, 1), (0, 1, 2)).astype(float), 3) > 0.45
        start = perf_counter()
        expected = medpy.hd95(prediction, truth, spacing), medpy.asd(prediction, truth, spacing)
        middle = perf_counter()
        distances = surface_distances(prediction, truth, spacing)
        found = hd95(distances), asd(distances)
        end = perf_counter()
        ratios.append((middle - start) / (end - middle))
        worst = max(worst, *(abs(f - e) / e for f, e in zip(found, expected, strict=True)))
        print(f"medpy {middle - start:.3f} s   semivox {end - middle:.3f} s   {ratios[-1]:.1f} x")
    print(f"median of {len(ratios)}: {median(ratios):.1f} x faster (bar: 7); largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
