"""Training cannot see what it must not: labels of unlabelled scans, and anything of held-out ones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from semivox.data.dataset import read_dataset
from semivox.data.splitting import Split, make_split, write_split
from semivox.errors import DatasetError
from semivox.methods import list_methods
from semivox.methods.pixel_contrast import WEIGHTS as FRAMEWORKS
from semivox.planning.plan import plan_dataset
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training.assembly import draft_run
from semivox.training.request import make_request
from toy_training import train_toy
from toys import write_toy_dataset

# SimCVD reads the most (distances), and intensities normalised by the foreground are one more way to labels; ARCO
# remembers, in slices.
FOREGROUND = {"steps": 4, "prepare": {"normalise": "foreground"}}
SLICES = {"dims": 2, "patch": [8, 8], "net": {"filters": 2, "levels": 2, "strides": [[2, 2]]}}
WORDS = {
    "simcvd": {"method": "simcvd", "settings": FOREGROUND},
    "arco": {"method": "arco", "settings": FOREGROUND | SLICES},
    "pixel_contrast": {"method": "pixel_contrast", "fields": {"framework": "moco"}, "settings": FOREGROUND},
}
# Every method of the registry, every framework of pixel contrast, and both variants of CVRL; in slices, for speed.
EVERY = {name: {"method": name} for name in list_methods()}
for framework in FRAMEWORKS:
    fields = {"framework": framework, "queue": 64, "neighbours": 5}
    EVERY[f"pixel_contrast-{framework}"] = {"method": "pixel_contrast", "fields": fields}
EVERY["cvrl-batch_feature"] = {"method": "cvrl", "fields": {"variant": "batch_feature", "queue": 64}}
# It compares the scales of a decoder, of which a net with two levels has one.
EVERY["urpc"]["settings"] = {"net": {"filters": 2, "levels": 3, "strides": [[2, 2], [2, 2]]}}

AUDITED = """
import json, os, sys
opened = []
def note(event, details):
    if event == "open" and isinstance(details[0], (str, bytes, os.PathLike)):
        opened.append(os.path.realpath(os.fsdecode(details[0])))
sys.addaudithook(note)
from pathlib import Path
from semivox.planning.plan import plan_dataset
from semivox.training.start import prepare
from toy_training import TINY, train_toy
data, split, output, words = json.loads(sys.argv[1])
data, split, output = Path(data), Path(split), Path(output)
plan = plan_dataset(data, split=split, device="cpu").to_json()
settings = {**TINY, **words["settings"]}
prepare(data, split=split, method=words["method"], settings=settings, cache=output / "cache")
train_toy(data, output / "run", cache=output / "cache", split=split, **words)
train_toy(data, output / "run", cache=output / "cache", split=split, resume=True, **words)
train_toy(data, output / "second", cache=output / "another_cache", split=split, **words)
print(json.dumps([plan, opened]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans that all have a label."""
    return write_toy_dataset(tmp_path_factory.mktemp("leaks") / "data", cases=6, unlabelled=0)


@pytest.fixture(scope="module")
def lists(data: Path) -> Split:
    return make_split(read_dataset(data), labelled=2, held_out=2)


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_labels_of_unlabelled_scans_and_held_out_files_change_nothing_and_are_never_opened(
    words, data, lists, tmp_path
):
    split = tmp_path / "split.json"
    write_split(lists, split)
    assert [len(names) for names in (lists.labelled, lists.unlabelled, lists.held_out)] == [2, 2, 2]
    plan = plan_dataset(data, split=split, device="cpu").to_json()
    train_toy(data, tmp_path / "run", cache=tmp_path / "cache", split=split, **words)

    spoilt = shutil.copytree(data, tmp_path / "spoilt")
    forbidden = [spoilt / "labelsTr" / f"{name}.nii.gz" for name in (*lists.unlabelled, *lists.held_out)]
    for label in forbidden:
        label.write_bytes(b"these bytes are no image")
    images = [spoilt / "imagesTr" / f"{name}_0000.nii.gz" for name in lists.held_out]
    for image in images:
        image.unlink()
    given = json.dumps([str(spoilt), str(split), str(tmp_path / "found"), words])
    command, here = [sys.executable, "-c", AUDITED, given], Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    found, opened = json.loads(done.stdout)
    assert found == json.loads(json.dumps(plan))
    for run in ("run", "second"):
        assert_same_end(tmp_path / "found" / run, tmp_path / "run")
    allowed = [spoilt / "labelsTr" / f"{name}.nii.gz" for name in lists.labelled]
    allowed += [spoilt / "imagesTr" / f"{name}_0000.nii.gz" for name in lists.pool]
    inside = {Path(path) for path in opened if Path(path).is_relative_to(spoilt)}
    assert inside == {*allowed, spoilt / "dataset.json"}, "and so none of the forbidden ones"


@pytest.fixture(scope="module")
def poisoned(data: Path, lists: Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder as it is, and with poison in it: labels that can be read and are wrong, or that are gone."""
    folder = tmp_path_factory.mktemp("poisoned")
    copies = {kind: shutil.copytree(data, folder / kind) for kind in ("true", "wrong", "gone", "wrong_labelled")}
    for kind in ("wrong", "gone"):
        for name in (*lists.unlabelled, *lists.held_out):
            spoil(copies[kind] / "labelsTr" / f"{name}.nii.gz", gone=kind == "gone")
    spoil(copies["wrong_labelled"] / "labelsTr" / f"{lists.labelled[0]}.nii.gz")
    return copies


def spoil(file: Path, *, gone: bool = False) -> None:
    """Exchange foreground and background of a label, or delete it."""
    label = nib.load(file)
    wrong = nib.Nifti1Image(1 - np.asarray(label.dataobj), label.affine)
    file.unlink()
    if not gone:
        nib.save(wrong, file)


@pytest.fixture(scope="module")
def trained(poisoned: dict[str, Path], lists: Split, tmp_path_factory: pytest.TempPathFactory):
    """``trained(kind, method=..., fields=...)``: the run of four steps of each stage on a poisoned folder."""
    caches = tmp_path_factory.mktemp("caches")  # one for each folder, so that none finds what another has prepared

    def train(kind: str, **words) -> Path:
        output = tmp_path_factory.mktemp("run") / kind
        settings = FOREGROUND | SLICES | words.pop("settings", {})
        train_toy(poisoned[kind], output, cache=caches / kind, split=lists, settings=settings, **words)
        return output

    return train


@pytest.mark.parametrize("words", EVERY.values(), ids=EVERY)
def test_every_method_trains_alike_bit_for_bit_whatever_the_labels_it_must_not_see(words, trained):
    true = trained("true", **words)
    for kind in ("wrong", "gone"):
        assert_same_end(trained(kind, **words), true)


def test_the_poison_would_be_noticed(trained):
    runs = [trained(kind, method="supervised") for kind in ("true", "wrong_labelled")]
    ends = [read_checkpoint(open_run(run).latest()) for run in runs]
    true, wrong = (end["method"] for end in ends)
    assert any(not torch.equal(true[name], wrong[name]) for name in true)


def test_what_training_is_given_names_no_label_but_those_it_may_read(data, lists):
    request = make_request(data, "supervised", lists, None, (), None, None)
    sealed = draft_run(request, Path()).dataset
    assert sealed.labelled == lists.labelled
    assert {*sealed.cases} == {*lists.pool, *lists.held_out}


def assert_same_end(found: Path, expected: Path) -> None:
    ends = [read_checkpoint(open_run(run).latest())["method"] for run in (found, expected)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])
    rows = [[{**row, "seconds": None} for row in open_run(run).log_rows()] for run in (found, expected)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("resume", [False, True], ids=["train", "resume"])
def test_a_copy_of_a_held_out_scan_among_the_unlabelled_ones_is_refused_whatever_its_form(
    resume, data, lists, tmp_path
):
    further = tmp_path / "further"
    further.mkdir()
    scan = nib.load(data / "imagesTr" / f"{lists.held_out[0]}_0000.nii.gz")
    # Stored in another order, dtype, compression and name: the same voxels all the same.
    flipped = scan.affine @ np.array([[-1, 0, 0, scan.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(scan.get_fdata(dtype=np.float64)[::-1], flipped), further / "somebody.nii")
    words = {"cache": tmp_path / "cache", "split": lists, "unlabelled": further, "resume": resume}
    with pytest.raises(DatasetError, match=rf"'somebody' .* same scan as held-out \['{lists.held_out[0]}'\]"):
        train_toy(data, tmp_path / "run", **words)
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_image_that_is_missing_from_the_pool_is_missed_at_once(data, lists, tmp_path):
    spoilt = shutil.copytree(data, tmp_path / "spoilt")
    (spoilt / "imagesTr" / f"{lists.unlabelled[0]}_0000.nii.gz").unlink()
    with pytest.raises(DatasetError, match=rf"{lists.unlabelled[0]}.*no such case"):
        train_toy(spoilt, tmp_path / "run", cache=tmp_path / "cache", split=lists)
