"""A data set of 10,000 scans: `python benchmarks/speed/many.py [--scans 10000]`, one thread, in a temporary folder.

First scans of 256 x 256 x 100 int16, as sparse files: list, split (5 held out, whose content is hashed), fingerprint,
plan and check of the pool, as `semivox train` does them. Then scans of 24 x 24 x 8, which are prepared and streamed:
the second start, when all is in the cache, the open files and the growth of memory from batch to batch.
"""

import argparse
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

os.environ["OMP_NUM_THREADS"] = "1"

import nibabel as nib
import numpy as np

from semivox.config.keys import Config
from semivox.data.checking import check_pool
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.preparation import prepare_dataset
from semivox.data.splitting import Split, make_split
from semivox.data.stream import Stream
from semivox.planning.plan import fingerprint, make_plan, make_recipe

LABELLED, HELD_OUT = 8, 5


def write(folder: Path, scans: int, shape: tuple[int, int, int], *, values: int) -> Path:
    """Write scans with `values` voxels that are not zero at their start, the first few with labels."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "numTraining": LABELLED + HELD_OUT}
    (folder / "dataset.json").write_text(json.dumps(facts | {"file_ending": ".nii"}))
    for index in range(scans):
        random = np.random.default_rng(index)
        _sparse(folder / "imagesTr" / f"case_{index:05d}_0000.nii", shape, random.integers(1, 999, values, np.int16))
        if index < LABELLED + HELD_OUT:
            _sparse(folder / "labelsTr" / f"case_{index:05d}.nii", shape, np.ones(values, np.uint8))
    return folder


def _sparse(path: Path, shape: tuple[int, int, int], values: np.ndarray) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(values.dtype)
    header.set_sform(np.diag([1, 1, 2, 1]), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.write(values.tobytes())
        file.truncate(352 + int(np.prod(shape)) * values.itemsize)


@contextmanager
def told(what: str, times: list[float]) -> Iterator[None]:
    start = perf_counter()
    yield
    times.append(perf_counter() - start)
    print(f"{what}: {times[-1]:.1f} s")


def opened(folder: Path, times: list[float]) -> tuple[Dataset, Split]:
    with told("list", times):
        dataset = read_dataset(folder)
    with told("split", times):
        return dataset, make_split(dataset, labelled=LABELLED, held_out=HELD_OUT)


def start(folder: Path) -> float:
    """Do what a training does before it prepares; return its seconds."""
    times: list[float] = []
    dataset, split = opened(folder, times)
    with told("plan", times):
        found = fingerprint(dataset, split)
        pool = {"labelled": len(split.labelled), "unlabelled": len(split.unlabelled)}
        make_plan(found, method="averaged_match", device="cpu", needs=frozenset(), **pool)
    with told("check of the pool", times):
        faults = check_pool(dataset, split)
    if faults:
        raise SystemExit(f"{faults[0]}")
    return sum(times)


def stream(folder: Path) -> None:
    times: list[float] = []
    dataset, split = opened(folder, times)
    config = Config(method={"name": "averaged_match"}, patch=(16, 16, 8))
    recipe = make_recipe(dataset, split, config, fingerprint(dataset, split))
    for what in ("prepared", "opened again"):
        with told(what, times):
            cases = prepare_dataset(dataset, split, recipe, folder.with_name("cache"))
    pools = [[cases[name] for name in names] for names in (split.labelled, split.unlabelled)]
    crops = Stream(*pools, patch=(16, 16, 8), batch_labelled=2, batch_unlabelled=200, seed=0, stage="train")
    memory = []
    with told("200 batches of 2 + 200 crops", times):
        for step in range(200):
            crops.batch(step)
            if step in (99, 199):
                memory.append(resident())
    print(f"open files: {len(os.listdir('/proc/self/fd'))} (bar: 256); memory grew by "
          f"{memory[1] - memory[0]:.0f} MB from batch 100 to batch 200")  # fmt: skip


def resident() -> float:
    """Return the resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10_000)
    scans = parser.parse_args().scans
    with tempfile.TemporaryDirectory() as place:
        seconds = start(write(Path(place, "large"), scans, (256, 256, 100), values=2000))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{scans} scans, from the folder to the first crop but for preparation: {seconds:.1f} s (bar: 60), "
              f"at most {peak:.2f} GB (bar: 1)")  # fmt: skip
        stream(write(Path(place, "small"), scans, (24, 24, 8), values=2000))


if __name__ == "__main__":
    main()
