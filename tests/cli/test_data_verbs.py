"""The verbs on folders, as a person gives them, on folders with a trap in them."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from toys import write_description

SHAPE = (18, 16, 8)


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
