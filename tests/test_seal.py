"""benchmarks/seal.py: masks of test scans by the fixed recipes, packed as they lie in their files."""

import importlib.util
import shutil
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.config.keys import for_method, read_config, resolve_config
from semivox.runs.building import make_method_config
from toys import write_toy_dataset

FILE = Path(__file__).parents[1] / "benchmarks" / "seal.py"
TINY = {"steps": 2, "patch": [8, 8], "net": {"filters": 2, "levels": 2}}


@pytest.fixture
def seal(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("seal", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setenv("SEMIVOX_CACHE", str(tmp_path / "cache"))
    return module


@pytest.fixture
def row(tmp_path):
    """Return a row whose data have two test scans and name patients of two scans each."""
    data = write_toy_dataset(tmp_path / "data", cases=6, unlabelled=0)
    (data / "imagesTs").mkdir()
    for case in ("case_90", "case_91"):
        shutil.copy(data / "imagesTr" / "case_00_0000.nii.gz", data / "imagesTs" / f"{case}_0000.nii.gz")
    return {"data": str(data), "config": "demo", "set": TINY, "order": ["case_04"]}


def test_the_first_of_the_order_are_labelled_and_all_others_train_without_labels(seal, row, tmp_path):
    split = seal.split_of(Path(row["data"]), row, 2)
    assert (split.labelled, split.held_out) == (("case_00", "case_04"), ())
    assert split.unlabelled == ("case_01", "case_02", "case_03", "case_05")
    by_patient = seal.split_of(Path(row["data"]), {**row, "patients": r"case_0[0-2]|case_0[3-5]", "order": []}, 1)
    assert by_patient.labelled == ("case_00",)


def test_a_key_for_each_test_scan_holds_its_mask_and_a_second_call_leaves_it(seal, row, tmp_path):
    seal.seal("toy", row, "supervised", 2, 1, tmp_path / "runs")
    packed = tmp_path / "predictions" / "toy" / "supervised-2-seed1.npz"
    masks = {mask.name[:7]: mask for mask in (tmp_path / "runs").rglob("case_9*.nii.gz")}
    with np.load(packed) as sealed:
        assert sorted(sealed) == sorted(masks) == ["case_90", "case_91"]
        for case, mask in masks.items():
            assert sealed[case].dtype == np.uint8
            assert np.array_equal(sealed[case], np.asarray(nib.load(mask).dataobj))
    before = packed.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "runs")
    seal.seal("toy", row, "supervised", 2, 1, tmp_path / "runs")
    assert (packed.stat().st_mtime_ns, (tmp_path / "runs").exists()) == (before, False)


def test_every_row_of_the_fixed_recipes_can_be_followed():
    rows = tomllib.loads((FILE.parent / "predictions" / "recipes.toml").read_text())
    assert set(rows) == {"acdc", "hippocampus", "la2018", "nuclei"}
    for row in rows.values():
        for method, budgets in row["labelled"].items():
            layers = [
                ("method", {"method": {"name": method}}),
                (row["config"], for_method(read_config(row["config"]), method)),
                ("set", row.get("set", {})),
            ]
            make_method_config(resolve_config(layers)[0])
            assert budgets == sorted(set(budgets))
        assert {4 * n for n in row["labelled"]["averaged_match"]} <= set(row["labelled"]["supervised"])


def test_the_sealed_masks_have_one_key_a_test_scan():
    packed = sorted(FILE.parent.glob("predictions/*/*.npz"))
    keys = {}
    for file in packed:
        with np.load(file) as masks:
            assert {masks[case].dtype for case in masks} == {np.dtype(np.uint8)}
            keys.setdefault(file.parent.name, set()).add(tuple(sorted(masks)))
        assert file.stat().st_size < 1_000_000
    assert all(len(names) == 1 for names in keys.values())
