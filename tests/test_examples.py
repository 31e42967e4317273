"""The examples: each runs on toy data, from the command line and as functions."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from semivox import check_dataset, read_dataset, read_split, train, write_phantom
from semivox.runs.folder import open_run

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ("steps=2", "patch=[16, 16]", "net.filters=2", "net.levels=3")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples") / "data"
    return write_phantom(folder, labelled=2, held_out=2, unlabelled=1, shape=(24, 24, 12))


@pytest.fixture(scope="module")
def trained(data):
    """The folder that train_one.py leaves, run from the command line."""
    words = [data, "-o", data.parent / "out", "--labelled", 2, "--held-out", 2, "--config", "demo"]
    done = run_example("train_one", *words, *(word for setting in TINY for word in ("--set", setting)))
    assert "step 2 of 2: loss" in done
    assert "phantom_0004 chamber: Dice" in done
    return data.parent / "out"


def run_example(name, *words):
    """Run an example as a person does, with warnings as errors; return what it printed."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def functions_of(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_train_one_leaves_split_run_masks_and_scores(trained):
    assert read_split(trained / "split.json").unlabelled == ("phantom_0002",)
    assert open_run(trained / "run").config.steps == 2
    assert sorted(path.name for path in (trained / "masks").glob("*.nii.gz")) == [
        "phantom_0003.nii.gz", "phantom_0004.nii.gz",
    ]  # fmt: skip
    assert len((trained / "scores.csv").read_text().splitlines()) == 3


def test_own_method_trains_by_its_file_name_and_its_own_fields(data, trained, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    split, settings = trained / "split.json", [*TINY, "log_every=1", "method.weight=0.5"]
    run = train(
        data, output=trained / "own", method="own_method", split=split, config="demo", settings=settings,
        cache=trained / "cache",
    ).run  # fmt: skip
    assert open_run(run).config.method_fields["weight"] == 0.5
    assert all(row["losses"]["entropy"] > 0 for row in open_run(run).log_rows())


def test_the_command_line_finds_a_method_in_the_working_folder(data, trained):
    # as the installed script starts
    code = "import sys; sys.path.remove(''); from semivox.cli.main import main; main()"
    settings = (word for setting in TINY for word in ("--set", setting))
    words = ["train", data, "--method", "own_method", "-o", trained / "cli", "--cache", trained / "cache", *settings]
    command = [sys.executable, "-c", code, *map(str, words), "--config", "demo"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_mean_entropy_is_one_for_even_odds_and_honours_validity():
    mean_entropy = functions_of("own_method")["mean_entropy"]
    even, sure = torch.zeros(1, 4, 2, 2), torch.tensor([100.0, 0, 0, 0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    assert mean_entropy(even, valid) == pytest.approx(1)
    assert mean_entropy(sure, valid) == pytest.approx(0)
    half = torch.cat([even, sure], dim=3)  # (1, 4, 2, 4)
    assert mean_entropy(half, torch.cat([valid, ~valid], dim=2)) == pytest.approx(1)
    assert mean_entropy(half, torch.zeros(1, 2, 4, dtype=torch.bool)) == 0


def test_own_dataset_makes_a_folder_without_fault_of_loose_files(data, tmp_path):
    loose = {
        "scans/ann/day1": "imagesTr/phantom_0000_0000",
        "masks/ann/day1": "labelsTr/phantom_0000",
        "scans/bob": "imagesUn/phantom_0002_0000",
    }
    for target, source in loose.items():
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{target}.nii.gz").write_bytes((data / f"{source}.nii.gz").read_bytes())
    folder = tmp_path / "made"
    printed = run_example("own_dataset", tmp_path / "scans", tmp_path / "masks", folder, "--labels", "chamber=1")
    assert printed == f"{folder}\n"  # no fault
    assert check_dataset(folder) == []
    dataset = read_dataset(folder)
    assert (tuple(dataset.cases), dataset.labelled, dataset.classes) == (
        ("ann_day1", "bob"), ("ann_day1",), ("background", "chamber"),
    )  # fmt: skip
    assert json.loads((folder / "dataset.json").read_text())["channel_names"] == {"0": "MRI"}


def test_own_dataset_makes_one_file_of_a_header_and_its_data_file(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for name in ("scans/a/x.mhd", "scans/b/x.mhd", "masks/a/x.nhdr"):
        (tmp_path / name).parent.mkdir(parents=True)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values * ("b/" in name)), str(tmp_path / name))
    make_folder = functions_of("own_dataset")["make_folder"]
    folder = make_folder(tmp_path / "scans", tmp_path / "masks", tmp_path / "made", channel="T1", labels={"a": 1})
    made = [folder / "imagesTr/a_x_0000.mha", folder / "imagesUn/b_x_0000.mha", folder / "labelsTr/a_x.nrrd"]
    assert sorted(path for path in folder.rglob("*") if path.parent != folder and path.is_file()) == made
    for path, factor in zip(made, (0, 1, 0), strict=True):
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), values * factor)


@pytest.mark.parametrize(("files", "message"), [
    (("scans/a.nii", "masks/b.nii"), "masks without a scan: b"),
    (("scans/a/b.nii", "scans/a_b.nii"), "would both be the case a_b"),
])  # fmt: skip
def test_own_dataset_makes_nothing_of_files_that_do_not_fit(files, message, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    make_folder = functions_of("own_dataset")["make_folder"]
    with pytest.raises(SystemExit, match=message):
        make_folder(tmp_path / "scans", tmp_path / "masks", tmp_path / "made", channel="T1", labels={"a": 1})
    assert not (tmp_path / "made").exists()


def test_embedding_writes_a_vector_per_scan_and_a_map(data, trained, tmp_path):
    run_example("embedding", trained / "run", data / "imagesTr", "-o", tmp_path / "embedding")
    rows = [line.split(",") for line in (tmp_path / "embedding/vectors.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["phantom_0000", "phantom_0001", "phantom_0003", "phantom_0004"]
    assert len(rows[0]) == 1 + 8  # two filters, doubled at each of two downsamplings
    assert len({tuple(row[1:]) for row in rows}) == 4
    assert (tmp_path / "embedding/map.png").read_bytes().startswith(b"\x89PNG")


def test_principal_axes_keep_distances_of_points_in_a_plane():
    principal_axes = functions_of("embedding")["principal_axes"]
    corners = np.array([[0, 0, 5], [4, 0, 5], [4, 1, 5], [0, 1, 5]], float)
    points, shares = principal_axes(corners)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(16 / 17)
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(np.sqrt(17))


def test_sampling_prints_that_the_schemes_differ_in_noise_alone():
    lines = [line.split() for line in run_example("sampling", "--repeats", 100).splitlines()]
    means, deviations = ({line[0]: float(line[at].strip(",")) for line in lines} for at in (2, 5))
    assert list(means) == ["naive", "sg", "sag"]
    assert max(means.values()) - min(means.values()) < 0.01
    assert deviations["naive"] > 1.3 * deviations["sg"]


def test_the_loss_of_the_sampling_example_takes_volumes_and_absent_classes():
    pixel_contrast = functions_of("sampling")["pixel_contrast"]
    embedding = torch.randn(2, 4, 6, 6, 6, requires_grad=True)
    label = torch.randint(2, (2, 6, 6, 6))
    loss = pixel_contrast(embedding, 2 * label - 1, classes=3)  # 1 is alone, and -1 has no part
    assert loss == 0
    pixel_contrast(embedding, 2 * label, classes=3).backward()
    assert embedding.grad.isfinite().all()
    assert embedding.grad.abs().sum() > 0
