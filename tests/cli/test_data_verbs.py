"""The verbs on folders, as a person gives them, on folders with a trap in them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from semivox.data.patients import patient_of
from toys import write_description, write_toy_dataset

SHAPE = (18, 16, 8)
TINY = ["--set", "steps=2", "--set", "patch=[8,8,8]", "--set", "net.filters=2", "--set", "net.levels=2",
        "--set", "batch_labelled=1", "--device", "cpu"]  # fmt: skip


def scan(*seeds: int) -> np.ndarray:
    """Return a scan of the patient of the first seed, as it looked on the occasion of the others."""
    draws = [ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2) for seed in seeds]
    return (1000 * draws[0] + sum(100 * draw for draw in draws[1:])).astype(np.float32)


def write(folder: Path, scans: dict[str, np.ndarray], *, images: str = "imagesTr", spacing: float = 1.0) -> Path:
    """Write scans of one grid, each with a label where they lie in imagesTr."""
    affine = np.diag([spacing, spacing, spacing, 1])
    for name, values in scans.items():
        for place, array in ((images, values), ("labelsTr", (values > values.mean()).astype(np.uint8))):
            (folder / place).mkdir(parents=True, exist_ok=True)
            if place != "labelsTr" or images == "imagesTr":
                path = folder / place / f"{name}{'' if place == 'labelsTr' else '_0000'}.nii.gz"
                nib.save(nib.Nifti1Image(array, affine), path)
    write_description(folder, channels=1, classes=2, training=len(scans))
    return folder


def offered(text: str) -> str:
    """Return the expression that a warning offers."""
    found = re.search(r"--patients '(.+?)',", text)
    assert found is not None, text
    return found[1]


@pytest.fixture
def frames(tmp_path) -> str:
    """Five patients, two frames each."""
    scans = {f"patient{p:03d}_frame{f:02d}": scan(p, 10 * p + f) for p in range(1, 6) for f in (1, 9)}
    return str(write(tmp_path / "frames", scans))


def test_split_and_check_suspect_frames_of_a_patient_on_two_sides_and_the_offered_expression_mends_it(semivox, frames):
    code, out, _ = semivox("split", frames, "--labelled", "3", "--held-out", "3", "-o", "split.json")
    assert code == 0
    assert out.startswith("3 labelled, 4 unlabelled, 3 held out: split.json\nwarning: ")
    assert "'patient004_frame01' and 'patient004_frame09'" in out
    assert out.count("\n") == 2, "what names say, images do not say again"
    code, checked, _ = semivox("check", frames, "--split", "split.json")
    assert (code, "1 patient: by name, with scans on both sides" in checked) == (0, True)
    code, out, _ = semivox(
        "split", frames, "--labelled", "2", "--held-out", "1", "--patients", offered(out), "-o", "mended.json"
    )
    assert (code, out) == (0, "4 labelled, 4 unlabelled, 2 held out: mended.json\n")
    assert semivox("check", frames, "--split", "mended.json")[:2] == (0, "0 errors, 0 warnings\n")


def test_images_of_one_patient_under_two_names_are_suspected_and_the_offered_expression_mends_it(semivox, tmp_path):
    scans = {code: scan(seed) for seed, code in enumerate(["qa", "wt", "ab", "zz", "mk", "ur"])}
    scans["zy"] = scan(2, 77)  # the patient of ab once more
    data = str(write(tmp_path / "codes", scans))
    _, out, _ = semivox("split", data, "--labelled", "2", "--held-out", "2", "-o", "split.json")
    assert "1 pair: by grid and intensities, one patient on both sides: found 'ab' and 'zy'" in out
    assert "by grid and intensities" in semivox("check", data, "--split", "split.json")[1]
    code, out, _ = semivox(
        "split", data, "--labelled", "2", "--held-out", "2", "--patients", offered(out), "-o", "mended.json"
    )
    assert (code, out.count("\n")) == (0, 1)
    lists = json.loads(Path("mended.json").read_text())
    assert any({"ab", "zy"} <= {*lists[side]} for side in ("labelled", "unlabelled", "held_out"))
    assert semivox("check", data, "--split", "mended.json")[:2] == (0, "0 errors, 0 warnings\n")


def test_two_patients_whose_names_begin_alike_stay_two_by_the_offered_expression(semivox, tmp_path):
    scans = {f"case_{number:03d}": scan(number) for number in range(1, 8)}
    scans |= {"case_008": scan(1, 71), "case_009": scan(2, 72)}  # the patients of case_001 and case_002 once more
    data = str(write(tmp_path / "data", scans))
    _, out, _ = semivox("split", data, "--labelled", "2", "--held-out", "2", "-o", "split.json")
    assert "'case_001' and 'case_008'" in out
    assert "'case_002' and 'case_009'" in out
    pattern = offered(out)
    found = {name: patient_of(name, pattern) for name in scans}
    assert found["case_001"] == found["case_008"] != found["case_002"] == found["case_009"]
    assert len(set(found.values())) == 7
    semivox("split", data, "--labelled", "2", "--held-out", "2", "--patients", pattern, "-o", "mended.json")
    assert semivox("check", data, "--split", "mended.json")[:2] == (0, "0 errors, 0 warnings\n")


def test_patients_that_are_given_are_believed_and_images_are_still_compared(semivox, tmp_path):
    scans = {f"p{p}_{f}": scan(p, 10 * p + f) for p in range(1, 6) for f in (1, 2)}
    scans |= {"p9_1": scan(2, 30), "p9_2": scan(2, 31)}  # p2 under another name
    data = str(write(tmp_path / "data", scans))
    words = ("split", data, "--labelled", "2", "--held-out", "1")
    _, out, _ = semivox(*words, "--patients", r"^p\d", "-o", "split.json")
    assert "by name" not in out
    assert "'p2_1' and 'p9_1'" in out
    _, out, _ = semivox(*words, "--patients", offered(out), "-o", "mended.json")
    assert out.count("\n") == 1
    assert semivox("check", data, "--split", "mended.json")[1] == "0 errors, 0 warnings\n"


def test_a_patient_in_the_pool_and_in_images_ts_is_suspected_without_a_split(semivox, frames):
    write(Path(frames), {"patient002_frame03": scan(2, 5), "patient008_frame01": scan(8)}, images="imagesTs")
    code, out, _ = semivox("check", frames)
    assert code == 0
    assert "found 'patient002_frame01' and 'imagesTs/patient002_frame03', expected" in out
    assert "lay them into one folder" in out


def test_sets_that_merely_count_raise_no_alarm(semivox, tmp_path):
    data = str(write(tmp_path / "data", {f"hippocampus_{index:03d}": scan(index) for index in range(8)}))
    _, out, _ = semivox("split", data, "--labelled", "2", "--held-out", "3", "-o", "split.json")
    assert out == "2 labelled, 3 unlabelled, 3 held out: split.json\n"
    assert semivox("check", data, "--split", "split.json")[1] == "0 errors, 0 warnings\n"


@pytest.mark.parametrize("spacing", [0.001, 60.0])
def test_a_spacing_that_no_scan_has_is_an_error_of_check_and_train(spacing, semivox, tmp_path):
    data = str(write(tmp_path / "data", {f"c{index}": scan(index) for index in range(2)}, spacing=spacing))
    code, out, _ = semivox("check", data)
    words = f"error: c0: spacing in mm of c0_0000.nii.gz: found [{spacing}, {spacing}, {spacing}], expected 0.01 to 50"
    assert code == 2
    assert words in out
    code, _, err = semivox("train", data, "-o", "run")
    assert (code, words.removeprefix("error: ") in err, Path("run").exists()) == (2, True, False)
    description = json.loads(Path(data, "dataset.json").read_text())
    Path(data, "dataset.json").write_text(json.dumps(description | {"spacing_is_nominal": True}))
    assert semivox("check", data)[:2] == (0, "0 errors, 0 warnings\n")


def test_an_image_without_contrast_is_an_error(semivox, tmp_path):
    data = str(write(tmp_path / "data", {"flat": np.full(SHAPE, 7, np.float32), "c": scan(1)}))
    code, out, _ = semivox("check", data)
    assert code == 2
    assert "error: flat: flat_0000.nii.gz has no contrast: found 7 everywhere, expected two different values" in out


def test_a_split_that_is_there_is_not_written_over(semivox, frames):
    Path("split.json").write_text("{}")
    code, out, err = semivox("split", frames, "--labelled", "2", "-o", "split.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "split.json is there already" in err
    assert Path("split.json").read_text() == "{}"


def test_labels_that_the_description_does_not_list_are_not_used_and_said_by_every_verb(semivox, tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=5, unlabelled=1)
    description = json.loads((data / "dataset.json").read_text())
    entries = [{"image": f"./imagesTr/case_0{n}.nii.gz", "label": f"./labelsTr/case_0{n}.nii.gz"} for n in (0, 2)]
    (data / "dataset.json").write_text(json.dumps(description | {"training": entries}))
    (data / "labelsTr/case_01.nii.gz").write_bytes(b"no image: nothing may open it")
    warning = "'training': labels are not used, since it does not list them: found 2: case_01, case_03"
    code, out, _ = semivox("check", str(data))
    assert (code, out.count(warning)) == (0, 1)
    code, out, _ = semivox("split", str(data), "-o", "split.json")
    assert (code, out.count(warning)) == (0, 1)
    assert json.loads(Path("split.json").read_text())["labelled"] == ["case_00", "case_02"]
    code, _, err = semivox("train", str(data), "-o", "run", *TINY)
    assert (code, err.count(warning)) == (0, 1)
    lists = json.loads(Path("run/split.json").read_text())
    assert (lists["labelled"], lists["unlabelled"]) == (["case_00", "case_02"], ["case_01", "case_03", "case_04"])


def test_train_says_first_that_it_is_supervised_where_nothing_is_unlabelled(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=2, unlabelled=0))
    code, _, err = semivox("train", data, "-o", "run", *TINY)
    assert code == 0
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith("note: the method is supervised, since nothing is unlabelled")
    _, _, err = semivox("train", data, "-o", "named", *TINY, "--method", "supervised")
    assert "since nothing is unlabelled" not in err


def test_train_takes_unlabelled_scans_of_subfolders(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=2, unlabelled=0))
    more = write_toy_dataset(tmp_path / "other", cases=2, unlabelled=2, seed=1) / "imagesTr"
    for number, scan in enumerate(sorted(more.iterdir())):
        (tmp_path / f"more/p{number}").mkdir(parents=True)
        scan.rename(tmp_path / f"more/p{number}/t1.nii.gz")
    assert semivox("train", data, "-o", "run", "--unlabelled", "more", *TINY)[0] == 0
    assert json.loads(Path("run/split.json").read_text())["unlabelled"] == ["p0-t1", "p1-t1"]


def test_dicom_is_sent_to_import_by_check_split_and_train_and_read_by_predict(semivox, tmp_path):
    (tmp_path / "scans/1").mkdir(parents=True)
    (tmp_path / "scans/1/IM0001").write_bytes(bytes(128) + b"DICM")
    data = str(write_toy_dataset(tmp_path / "data", cases=2, unlabelled=0))
    assert semivox("train", data, "-o", "run", *TINY)[0] == 0
    for words in (
        ("check", "scans"), ("split", "scans", "-o", "s.json"), ("train", "scans", "-o", "other"),
        ("train", data, "--unlabelled", "scans", "-o", "other"),
    ):  # fmt: skip
        code, out, err = semivox(*words)
        assert code == 2
        assert "make a data set of the series in it with `semivox import scans" in out + err
    code, out, err = semivox("predict", "run", "scans", "-o", "masks")
    assert (code, out) == (2, "")
    assert "scans: found 1 other objects without images, expected DICOM files of series of slices" in err


def test_a_pool_needs_no_open_file_a_scan(tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=90, unlabelled=45, shape=(8, 8, 8))
    words = [sys.executable, "-m", "semivox.cli.main", "train", str(data), "-o", "run", *TINY, "--cache", "cache"]
    done = subprocess.run(
        f"ulimit -n 60; exec {shlex.join(words)}", shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
