"""The public names in Python: paths may be strings everywhere, and one path may stand where several may."""

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

import semivox
import thresholding
from dicom_files import write_series
from reviewing_folders import write_review
from semivox.errors import ConfigError
from toys import write_toy_dataset

SMALL = {"steps": 1, "patch": [8, 8, 8], "net": {"filters": 2, "levels": 2}, "batch_labelled": 1, "batch_unlabelled": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> str:
    """Return a folder with a toy data set, a split, a run and a protocol."""
    folder = tmp_path_factory.mktemp("strings")
    data = write_toy_dataset(folder / "data", cases=4, unlabelled=1, shape=(10, 9, 8))
    thresholding.write_run(folder / "run", channels=("MR_0",), classes=("background", "blob_1"), held_out=["case_02"])
    split = semivox.make_split(semivox.read_dataset(str(data)), labelled=2, held_out=1)
    semivox.write_split(split, str(folder / "split.json"))
    (folder / "protocol.toml").write_text(f"""
[bench]
title = "toys"
data = "{data}"
config = "{folder / 'small.toml'}"
held_out = 1

[[bench.run]]
method = "supervised"
labelled = 2
""")
    (folder / "small.toml").write_text(
        'steps = 1\npatch = [8, 8, 8]\nbatch_labelled = 1\nnet = {filters = 2, levels = 2}\n'
    )
    return str(folder)


def test_every_function_that_takes_a_path_takes_a_string(place, tmp_path, monkeypatch):
    data, split, run, cache = f"{place}/data", f"{place}/split.json", f"{place}/run", f"{place}/cache"
    out = str(tmp_path)
    more = str(write_toy_dataset(tmp_path / "more", cases=1, unlabelled=1, shape=(10, 9, 8), seed=5) / "imagesTr")
    monkeypatch.setattr("semivox.benchmarking.demonstration.write_phantom", write_toys_for_the_demo)
    asked = {"split": split, "unlabelled": more, "cache": cache}
    calls = {
        "Predictor": lambda: semivox.Predictor(run, device="cpu").run.path == Path(run),
        "advise": lambda: begun_advice(data, f"{out}/advice", f"{place}/small.toml"),
        "bench": lambda: semivox.bench(f"{place}/protocol.toml", output=f"{out}/bench", cache=cache, device="cpu"),
        "check_dataset": lambda: semivox.check_dataset(data, split=split, unlabelled=more) == [],
        "cross_validate": lambda: semivox.cross_validate(
            data, **asked, folds=2, output=f"{out}/folds", settings=SMALL, device="cpu"
        ).finished,
        "curve": lambda: begun_curve(data, f"{out}/curve", f"{place}/small.toml"),
        "demo": lambda: begun_demo(f"{out}/demo"),
        "fingerprint": lambda: semivox.fingerprint(semivox.read_dataset(data), semivox.read_split(split)),
        "plan_dataset": lambda: semivox.plan_dataset(data, **asked, device="cpu").values["dims"] == 3,
        "predict": lambda: semivox.predict(run, f"{data}/imagesTr", output=f"{out}/masks", device="cpu"),
        "evaluate_masks": lambda: semivox.evaluate_masks(f"{out}/masks", data, f"{out}/scores.csv", cases=split),
        "estimate_quality": lambda: semivox.estimate_quality(
            run, f"{out}/masks", output=f"{out}/quality.csv", device="cpu"
        ),
        "next_scans": lambda: semivox.next_scans(run, data, output=f"{out}/list.csv", count=1, device="cpu"),
        "add_labels": lambda: semivox.add_labels(begun_labelling(data, f"{out}/own"), f"{out}/own-corrected"),
        "apply_review": lambda: semivox.apply_review(
            data, reviewed(f"{out}/masks"), f"{out}/masks", worklist=f"{out}/reviewed.csv"
        ).accept,
        "import_dicom": lambda: semivox.import_dicom(series(more), output=f"{out}/imported").cases == ("case_001",),
        "predict_dicom": lambda: semivox.predict_dicom(
            f"{place}/run", series(more), output=f"{out}/dicom_masks", device="cpu"
        ),
        "export_segmentations": lambda: semivox.export_segmentations(
            f"{place}/run", f"{out}/dicom_masks", series(more), output=f"{out}/segmentations"
        ),
        "prepare": lambda: semivox.prepare(data, **asked, config=f"{place}/small.toml", method="supervised"),
        "read_dataset": lambda: semivox.read_dataset(data, unlabelled=more).added,
        "read_image": lambda: semivox.read_image(f"{data}/imagesTr/case_00_0000.nii.gz").channels == 1,
        "read_split": lambda: semivox.read_split(split, semivox.read_dataset(data)).held_out,
        "run": lambda: begun_run(data, f"{out}/all", cache),
        "train": lambda: semivox.train(data, **asked, output=f"{out}/run", settings=SMALL, device="cpu").finished,
        "export_dataset": lambda: semivox.export_dataset(
            f"{out}/run", data, f"{out}/masks", output=f"{out}/Dataset001_toys", unlabelled=more
        ).masks,
        "export_run": lambda: semivox.export_run(f"{out}/run", output=f"{out}/net", format="torch"),
        "write_mask": lambda: written(f"{data}/imagesTr/case_00_0000.nii.gz", f"{out}/mask.nii.gz"),
        "write_phantom": lambda: semivox.write_phantom(
            f"{out}/phantom", labelled=1, unlabelled=0, held_out=0, shape=(12, 12, 8)
        ),
        "write_report": lambda: semivox.write_report(f"{out}/scores.csv", f"{out}/report.html", images=data),
        "write_split": lambda: written_split(split, f"{out}/copy.json"),
    }
    take_no_path = {"__version__", "list_methods", "make_plan", "make_split"}
    assert {*calls} | take_no_path == {*semivox.__all__}
    for name, call in calls.items():
        assert call(), name


def write_toys_for_the_demo(folder: Path, *, labelled: int, unlabelled: int, held_out: int, **grid: object) -> Path:
    return write_toy_dataset(folder, cases=labelled + unlabelled + held_out, unlabelled=unlabelled, shape=(4, 4, 4))


def series(beside: str) -> str:
    folder = Path(beside).parent / "dicom"
    if not folder.exists():
        write_series(folder, np.zeros((4, 3, 2), np.int16))
    return str(folder)


def begun_demo(folder: str) -> bool:
    with pytest.raises(ConfigError, match="device = 'abacus'"):  # the trainings take minutes
        semivox.demo(folder, device="abacus")
    return (Path(folder) / "split.json").exists()


def reviewed(masks: str) -> str:
    return str(write_review(Path(masks) / "review.json", Path(masks), {"case_03": "accept"}))


def begun_advice(data: str, folder: str, config: str) -> bool:
    with pytest.raises(ConfigError, match="device = 'abacus'"):
        semivox.advise(data, output=folder, config=config, device="abacus")
    return (Path(folder) / "config.toml").exists()


def begun_labelling(data: str, folder: str) -> str:
    shutil.copytree(data, folder)
    unlabelled = next(case.name for case in semivox.read_dataset(folder).cases.values() if case.label is None)
    first = sorted((Path(folder) / "labelsTr").iterdir())[0]
    Path(f"{folder}-corrected").mkdir()
    shutil.copy(first, Path(f"{folder}-corrected") / f"{unlabelled}.nii.gz")
    return folder


def begun_run(data: str, folder: str, cache: str) -> bool:
    with pytest.raises(ConfigError, match="device = 'abacus'"):
        semivox.run(data, output=folder, cache=cache, device="abacus")
    return (Path(folder) / "config.toml").exists()


def begun_curve(data: str, folder: str, config: str) -> bool:
    with pytest.raises(ConfigError, match="device = 'abacus'"):
        semivox.curve(data, labelled=[1, 2], output=folder, config=config, held_out=1, device="abacus")
    return (Path(folder) / "protocol.toml").exists()


def written(scan: str, path: str) -> bool:
    volume = semivox.read_image(scan)
    semivox.write_mask(np.zeros(volume.shape, np.uint8), volume, path)
    return Path(path).exists()


def written_split(split: str, path: str) -> bool:
    semivox.write_split(semivox.read_split(split), path)
    return Path(path).exists()


@pytest.mark.parametrize("name", [name for name in semivox.__all__ if name != "__version__"])
def test_every_path_of_a_signature_is_also_a_string(name):
    value = getattr(semivox, name)
    for parameter in inspect.signature(value).parameters.values():
        kind = str(parameter.annotation)
        assert "Path" not in kind or "str" in kind, f"{name}({parameter})"
