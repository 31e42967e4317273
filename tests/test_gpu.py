"""What only a GPU can show: every method trains there in its own half precision, and what it learned predicts."""

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from semivox.errors import RunError
from semivox.methods import list_methods
from semivox.prediction.files import predict
from semivox.runs.folder import open_run
from semivox.training.start import train
from toy_training import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


def train_on_gpu(data: Path, output: Path, cache: Path, *, name: str = "mean_teacher", **settings: Any) -> Any:
    words = {**TINY, "steps": 3, **settings}
    return train(data, output=output, method=name, settings=words, cache=cache, device="cuda")


@pytest.mark.parametrize("name", list_methods())
def test_every_method_trains_and_predicts(name, toy_data, toy_cache, tmp_path):
    assert train_on_gpu(toy_data, tmp_path / "run", toy_cache, name=name).finished
    rows = open_run(tmp_path / "run").log_rows()
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(math.isfinite(loss) for row in rows for loss in row["losses"].values())
    scan = toy_data / "imagesTr" / "case_03_0000.nii.gz"
    (mask,) = predict([tmp_path / "run"], [scan], output=tmp_path / "masks", device="cuda")
    assert nib.load(mask).shape == nib.load(scan).shape
    assert set(nib.load(mask).get_fdata().ravel()) <= {0.0, 1.0}


def test_a_run_goes_on_where_it_stopped(toy_data, toy_cache, tmp_path):
    words = {"settings": {**TINY, "steps": 4}, "cache": toy_cache, "device": "cuda", "method": "mean_teacher"}
    assert not train(toy_data, output=tmp_path / "run", seconds=1e-9, **words).finished
    assert train(toy_data, output=tmp_path / "run", resume=True, **words).finished
    assert [row["step"] for row in open_run(tmp_path / "run").log_rows()] == [0, 1, 2, 3]


def test_strict_gives_the_same_losses_twice(toy_data, toy_cache, tmp_path):
    logs = []
    for name in ("one", "other"):
        train_on_gpu(toy_data, tmp_path / name, toy_cache, determinism="strict", method={"geometry": "flips"})
        logs.append([row["losses"] for row in open_run(tmp_path / name).log_rows()])
    assert logs[0] == logs[1]


def test_a_gpu_that_is_too_small_says_what_to_lower(toy_data, toy_cache, tmp_path):
    try:
        torch.cuda.set_per_process_memory_fraction(5e8 / torch.cuda.get_device_properties(0).total_memory)
        with pytest.raises(RunError, match=r"step 0: the GPU has .* GB, too little for this step: lower batch"):
            train_on_gpu(toy_data, tmp_path, toy_cache, patch=[96, 96, 96], net={"filters": 32, "levels": 2})
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
