"""Exported runs: what a program without semivox makes of scans is what `semivox predict` makes of them."""

import json
import runpy
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import thresholding
from scans import affine_of, save
from semivox import export_run, predict, write_phantom
from semivox.errors import RunError
from semivox.exchange import network
from semivox.prediction.predictor import Predictor
from semivox.training.start import train

SMALL = {"steps": 12, "batch_labelled": 1, "batch_unlabelled": 1}
KINDS: dict[str, dict[str, Any]] = {
    "3d": {**SMALL, "patch": [16, 16, 16], "net": {"filters": 4, "levels": 3}, "method": {"lr": 0.03}},
    "2d": {**SMALL, "dims": 2, "patch": [32, 32], "net": {"name": "unet", "filters": 4, "levels": 3},
           "spacing": [1.5, 1.5, 1.0]},
}  # fmt: skip
METHODS = {"3d": "averaged_match", "2d": "duo_segnet"}
"""Of one predicts a teacher, of the other the mean of two nets."""


@pytest.fixture(scope="module")
def toy_run(train_toy, tmp_path_factory) -> Path:
    """A run of less than a second, of which the teacher predicts."""
    return train_toy(tmp_path_factory.mktemp("toy") / "run", method="averaged_match").run


@pytest.fixture(scope="module")
def for_torch(toy_run, tmp_path_factory) -> Path:
    return export_run(toy_run, output=tmp_path_factory.mktemp("torch") / "out", format="torch")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two labelled and three unlabelled phantom scans; not to be written to."""
    folder = tmp_path_factory.mktemp("phantom") / "data"
    return write_phantom(folder, labelled=2, unlabelled=3, held_out=0, shape=(40, 36, 20))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict[str, Path]:
    """Trainings of seconds on the phantom whose masks hold both classes."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, method in METHODS.items():
        train(data, output=folder / kind, method=method, settings=KINDS[kind], cache=folder / "cache", device="cpu")
    return {kind: folder / kind for kind in METHODS}


def scans_of(data: Path) -> list[Path]:
    return sorted([*data.glob("imagesTr/*.nii.gz"), *data.glob("imagesUn/*.nii.gz")])


def run_script(folder: Path, *files: Path) -> str:
    """Run predict.py as a person does, but in this process; return what it says where it gives up."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["predict.py", *map(str, files)])
        patched.syspath_prepend(folder)
        patched.delitem(sys.modules, "preparation", raising=False)
        try:
            runpy.run_path(str(folder / "predict.py"), run_name="__main__")
        except SystemExit as stopped:
            return str(stopped.code)
    return ""


def assert_same_masks(run: Path, folder: Path, scans: list[Path], tmp_path: Path) -> None:
    predict(run, scans, output=tmp_path / "masks", device="cpu")
    for scan in scans:
        name = scan.name.replace("_0000.nii", ".nii")
        assert run_script(folder, scan, tmp_path / name) == ""
        ours, theirs = nib.load(tmp_path / "masks" / name), nib.load(tmp_path / name)
        assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        assert len(np.unique(np.asarray(ours.dataobj))) == 2
        assert theirs.get_data_dtype() == ours.get_data_dtype()
        assert_allclose(theirs.affine, ours.affine, atol=1e-5)


def test_the_script_beside_a_net_for_torch_makes_the_same_masks(for_torch, toy_run, toy_data, tmp_path):
    names = sorted(path.name for path in for_torch.iterdir() if path.is_file())
    assert names == ["net.pt2", "predict.py", "preparation.json", "preparation.py"]
    assert_same_masks(toy_run, for_torch, scans_of(toy_data)[:2], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_gives_the_same_probabilities_and_masks(kind, runs, data, tmp_path):
    import onnxruntime

    export_run(runs[kind], output=tmp_path / "out", format="onnx")
    predictor = Predictor(runs[kind], device="cpu")
    session = onnxruntime.InferenceSession(tmp_path / "out/net.onnx", providers=["CPUExecutionProvider"])
    windows = torch.randn(5, 1, *KINDS[kind]["patch"], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = predictor.method.predict(windows).numpy()
    [theirs] = session.run(None, {"windows": windows.numpy()})
    assert np.abs(ours - theirs).max() < 1e-4
    scans = scans_of(data)
    assert len(scans) == 5
    assert_same_masks(runs[kind], tmp_path / "out", scans, tmp_path)


@pytest.mark.slow
def test_the_script_runs_where_nothing_but_its_four_packages_is_installed(toy_run, toy_data, tmp_path):
    """Installs them into a new environment, from wherever pip takes packages here."""
    out = export_run(toy_run, output=tmp_path / "out", format="onnx")
    venv.create(tmp_path / "venv", with_pip=True)
    python, constraints = tmp_path / "venv/bin/python", Path(__file__).parents[2] / "constraints.txt"
    packages = ["numpy", "nibabel", "scipy", "onnxruntime"]
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", constraints, *packages], check=True)
    [scan, *_] = scans_of(toy_data)
    subprocess.run([python, "-W", "error", out / "predict.py", scan, tmp_path / "mask.nii.gz"], env={}, check=True)
    [mask] = predict(toy_run, scan, output=tmp_path / "masks", device="cpu")
    assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), np.asarray(nib.load(mask).dataobj))
    assert subprocess.run([python, "-c", "import semivox"], env={}, capture_output=True, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_monai_makes_the_same_masks(kind, runs, data, tmp_path):
    scans = Path(shutil.copytree(data / "imagesTr", tmp_path / "scans"))
    for year, scan in zip((2019, 2020), scans_of(data), strict=False):  # a scan each, not channels
        shutil.copy(scan, scans / f"visit_{year}.nii.gz")
    export_run(runs[kind], output=tmp_path / "out", format="monai")
    without = "import runpy, sys; sys.modules['semivox'] = None; runpy.run_module('monai.bundle', run_name='__main__')"
    words = ["run", "--config_file", "configs/inference.json", "--dataset_dir", scans]
    command = [sys.executable, "-c", without, *map(str, [*words, "--output_dir", tmp_path / "theirs"])]
    done = subprocess.run(command, cwd=tmp_path / "out", env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    masks = predict(runs[kind], scans, output=tmp_path / "ours", device="cpu")
    assert len(masks) == 4
    for mask in masks:
        ours, theirs = nib.load(mask), nib.load(tmp_path / "theirs" / mask.name)
        assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
        assert theirs.get_data_dtype() == ours.get_data_dtype()
        assert_allclose(theirs.affine, ours.affine, atol=1e-5)


SETTINGS = {
    "as it is": {},
    "coarser": {"spacing": (3.0, 2.5, 7.0)},
    "slices": {"dims": 2, "patch": (8, 8), "slice_axis": 0, "spacing": (1.0, 3.0, 3.0)},
    "resized slices": {"dims": 2, "patch": (8, 8), "resize": (11, 17), "slice_axis": 1},
    "windows": {"predict": {"stride": (5, 24, 3), "blend": "plain"}},
    "largest component": {"predict": {"largest_component": True, "step_size": 0.7}},
    "mirrored": {"predict": {"mirror": True}},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_way_to_prepare_and_to_slide_is_exported(settings, tmp_path):
    """A thick scan of two channels, turned, not of whole numbers and with a rim of zeros."""
    image = np.random.default_rng(0).normal(20, 30, (2, 14, 12, 10)).astype(np.float32)
    image[:, :2] = image[:, :, -3:] = 0
    files = [
        save(array, tmp_path / f"scans/a_{channel:04d}.nii.gz", affine_of((2.5, 2.5, 8.0)), code="LSA")
        for channel, array in enumerate(image)
    ]
    fields = {"threshold": 0.1, "width": 0.5, "tilt": 0.9}
    run = thresholding.write_run(
        tmp_path / "run", channels=("a", "b"), label_values=(0, 300), settings=settings, fields=fields
    )
    shading = {"normalise": ["volume", "foreground"], "mean": [9.0, 3.0], "std": [4.0, 2.0]}
    change_recipe(run, clip=[[-30.0, 90.0], None], resize=settings.get("resize"), **shading)
    export_run(run, output=tmp_path / "out", format="torch", trust=True)
    assert run_script(tmp_path / "out", *files, tmp_path / "a.nii.gz") == ""
    [mask] = predict(run, files, output=tmp_path / "masks", device="cpu")
    ours, theirs = nib.load(mask), nib.load(tmp_path / "a.nii.gz")
    assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
    assert set(np.unique(np.asarray(ours.dataobj))) == {0, 300}
    assert theirs.get_data_dtype() == ours.get_data_dtype() == np.int16


def change_recipe(run: Path, **changes: Any) -> None:
    facts = json.loads((run / "run.json").read_text())
    facts["recipe"] |= changes
    (run / "run.json").write_text(json.dumps(facts))


def test_only_what_predicts_goes_out_and_no_path_of_the_machine(for_torch, toy_run, toy_data):
    program = torch.export.load(for_torch / "net.pt2")
    teacher = Predictor(toy_run, device="cpu").method.teacher
    assert len(program.state_dict) == len(list(teacher.parameters()))
    assert all(".teacher." in name for name in program.state_dict)
    found = b"".join(path.read_bytes() for path in for_torch.iterdir() if path.is_file())
    for word in (str(Path(network.__file__).parents[2]), str(toy_data), "case_0"):
        assert word.encode() not in found


def test_the_script_says_in_one_line_what_it_cannot_take(for_torch, toy_data, tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    scan = scans_of(toy_data)[0]
    broken = save(np.full((8, 8, 8), np.nan, np.float32), tmp_path / "nan.nii.gz")
    for files, message in (
        ([tmp_path / "picture.png"], "picture.png"),
        ([scan, scan], "found 2 channels, expected finite ones of MR_0"),
        ([tmp_path / "gone.nii.gz"], "gone.nii.gz"),
        ([broken], "found 1 channels, expected finite ones"),
        ([], "python predict.py SCAN.nii.gz"),
    ):
        said = run_script(for_torch, *files, tmp_path / "mask.nii.gz")
        assert message in said
        assert not (tmp_path / "mask.nii.gz").exists()


def test_the_script_takes_no_channels_of_different_grids(tmp_path):
    run = thresholding.write_run(tmp_path / "run", channels=("a", "b"))
    out = export_run(run, output=tmp_path / "out", format="torch", trust=True)
    image = np.ones((8, 8, 8), np.float32)
    files = [save(image, tmp_path / f"{side}.nii.gz", affine_of((side, 1.0, 1.0))) for side in (1.0, 1.1)]
    assert "its channels lie on different grids" in run_script(out, *files, tmp_path / "mask.nii.gz")


def test_a_written_net_that_gives_something_else_is_not_exported(tmp_path, monkeypatch):
    run = thresholding.write_run(tmp_path / "run")
    monkeypatch.setattr(network, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match="differ from the run's"):
        export_run(run, output=tmp_path / "out", format="torch", trust=True)
    assert list(tmp_path.iterdir()) == [run]


def test_boxes_of_cases_stay_behind(tmp_path):
    run = thresholding.write_run(tmp_path / "run")
    change_recipe(run, boxes={"patient_7": [0, 0, 0, 4, 4, 4]})
    notes: list[str] = []
    out = export_run(run, output=tmp_path / "out", format="torch", trust=True, on_note=notes.append)
    assert "prepare.boxes" in notes[0]
    assert b"patient_7" not in (out / "preparation.json").read_bytes()


