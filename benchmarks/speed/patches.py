"""Patches a second, reading alone: `python benchmarks/speed/patches.py [-o FILE.csv]`, one thread, a warm page cache.

Image and label of 112 x 112 x 80 voxels from 16 made-up scans of 180 x 140 x 88, three ways, in turns:

  semivox  a batch of one crop, from memory-mapped arrays, as `Stream.batch` gives it;
  h5       what the line of UA-MT reads: a gzip-packed HDF5 file a scan, whole, then cropped at random;
  MONAI    a random crop of arrays that `CacheDataset` holds in memory.

Every crop is compared with its scan. Needs h5py (extra `bench`).
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"

import h5py
import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import RandSpatialCropd
from scipy.ndimage import gaussian_filter

from semivox.data.caching import cached
from semivox.data.preparation import PreparedCase
from semivox.data.stream import Stream
from semivox.files import write_table

SCANS, SHAPE, PATCH, REPEATS = 16, (180, 140, 88), (112, 112, 80), 50
BARS = {"h5": 20.0, "MONAI": 3.0}
Arrays = dict[str, np.ndarray]
Crop = tuple[np.ndarray, np.ndarray]


def scan(seed: int) -> Arrays:
    """Return a smooth image (1, X, Y, Z), which packs as scans do, and the label of its bright parts."""
    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 3).astype(np.float32)
    smooth /= smooth.std()
    return {"image": smooth[None], "label": (smooth > 1.5).astype(np.uint8)}


def semivox_reader(scans: list[Arrays], folder: Path) -> Callable[[int], Crop]:
    kept = [cached(folder, str(n), lambda arrays=arrays: (arrays, {}))[0] for n, arrays in enumerate(scans)]
    cases = [
        PreparedCase(
            str(n), arrays["image"], (1.0, 1.0, 1.0), "", arrays["label"], np.argwhere(arrays["label"]).astype(np.int32)
        )
        for n, arrays in enumerate(kept)
    ]
    stream = Stream(cases, [], patch=PATCH, batch_labelled=1, batch_unlabelled=0, seed=0, stage="train")

    def read(step: int) -> Crop:
        batch = stream.batch(step)
        return batch.image_l[0].numpy(), batch.label_l[0].numpy()

    return read


def h5_reader(scans: list[Arrays], folder: Path) -> Callable[[int], Crop]:
    for n, arrays in enumerate(scans):
        with h5py.File(folder / f"{n}.h5", "w") as file:
            file.create_dataset("image", data=arrays["image"][0], compression="gzip")
            file.create_dataset("label", data=arrays["label"], compression="gzip")

    def read(step: int) -> Crop:
        random = np.random.default_rng(step)
        with h5py.File(folder / f"{step % SCANS}.h5") as file:
            image, label = file["image"][:], file["label"][:]
        box = tuple(slice(c := int(random.integers(n - p + 1)), c + p) for n, p in zip(SHAPE, PATCH, strict=True))
        return image[box][None].copy(), label[box].copy()

    return read


def monai_reader(scans: list[Arrays], folder: Path) -> Callable[[int], Crop]:
    entries = [{"image": arrays["image"], "label": arrays["label"][None]} for arrays in scans]
    dataset = CacheDataset(entries, RandSpatialCropd(["image", "label"], PATCH, random_size=False), progress=False)

    def read(step: int) -> Crop:
        found = dataset[step % SCANS]
        return np.ascontiguousarray(found["image"]), np.ascontiguousarray(found["label"][0])

    return read


READERS = {"semivox": semivox_reader, "h5": h5_reader, "MONAI": monai_reader}


def refuse_foreign(name: str, crop: Crop, scans: list[Arrays]) -> None:
    """End where a crop is not a part of one of the scans."""
    image, label = crop
    for arrays in scans:
        for corner in np.argwhere(arrays["image"][0] == image[0, 0, 0, 0]):
            box = tuple(slice(c, c + p) for c, p in zip(corner, PATCH, strict=True))
            if np.array_equal(arrays["image"][0][box], image[0]) and np.array_equal(arrays["label"][box], label):
                return
    raise SystemExit(f"{name} read a crop that is in no scan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    output = parser.parse_args().output
    torch.set_num_threads(1)
    scans = [scan(seed) for seed in range(SCANS)]
    with tempfile.TemporaryDirectory() as place:
        readers, seconds = {}, {name: [] for name in READERS}
        for name, make in READERS.items():
            folder = Path(place, name)
            folder.mkdir()
            readers[name] = make(scans, folder)
            for step in range(SCANS):
                refuse_foreign(name, readers[name](step), scans)
        for step in range(REPEATS):
            for name, read in readers.items():
                start = perf_counter()
                read(SCANS + step)
                seconds[name].append(perf_counter() - start)
    times = {name: median(found) for name, found in seconds.items()}
    rows = [
        {"reader": name, "median_ms": round(1000 * taken, 2), "times_semivox": round(taken / times["semivox"], 2)}
        for name, taken in times.items()
    ]
    for row in rows:
        bar = f" (bar: {BARS[row['reader']]:.0f})" if row["reader"] in BARS else ""
        print(f"{row['reader']:<8} {row['median_ms']:>7} ms  {row['times_semivox']:>6} x{bar}")
    if output:
        write_table(output, list(rows[0]), rows)


if __name__ == "__main__":
    main()
