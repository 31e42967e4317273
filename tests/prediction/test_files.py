"""Prediction: masks in each file's own grid, whole or not at all, with a record of where they come from."""

import json
import shutil
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import thresholding
from scans import save, values_of
from semivox.data.phantom import write_phantom
from semivox.data.volume import read_image
from semivox.errors import ConfigError, DatasetError, GeometryError, PredictionError, RunError
from semivox.methods import method_class, method_module
from semivox.prediction.files import Options, Predictor, predict


@pytest.fixture
def scans(tmp_path) -> Path:
    """Return a folder with two tiny scans: a bright block, and a bright block with an islet."""
    image = np.full((12, 10, 8), 10.0, np.float32)
    image[2:8, 2:8, 2:6] = 90
    save(image, tmp_path / "scans" / "a_0000.nii.gz")
    image[10, 8, 7] = 90
    save(image, tmp_path / "scans" / "b_0000.nii.gz")
    return tmp_path / "scans"


@pytest.fixture
def run(tmp_path) -> Path:
    return thresholding.write_run(tmp_path / "run")


def test_masks_that_exist_are_skipped_and_made_anew_on_demand(run, scans, tmp_path):
    output = tmp_path / "masks"
    masks = predict([run], [scans], output=output)
    assert [path.name for path in masks] == ["a.nii.gz", "b.nii.gz"]
    times = [path.stat().st_mtime_ns for path in masks]
    masks[1].unlink()
    seen = []
    assert predict([run], [scans], output=output, on_case=lambda *told: seen.append(told)) == masks
    assert seen == [("a", 0, 2), ("b", 1, 2), ("", 2, 2)]
    assert masks[0].stat().st_mtime_ns == times[0]
    assert masks[1].exists()
    predict([run], [scans], output=output, overwrite=True)
    assert masks[0].stat().st_mtime_ns > times[0]


def test_probabilities_of_several_runs_are_averaged_and_their_entropy_is_the_uncertainty(scans, tmp_path):
    runs = [
        thresholding.write_run(tmp_path / f"run{threshold}", fields={"threshold": threshold, "width": 40.0})
        for threshold in (20.0, 70.0)
    ]
    predict(runs, [scans], output=tmp_path / "masks", probabilities=True, uncertainty=True)
    found = nib.load(tmp_path / "masks" / "a_probabilities.nii.gz")
    scan = nib.load(scans / "a_0000.nii.gz")
    assert found.shape == (*scan.shape, 2)
    assert found.get_data_dtype() == np.float32
    assert_array_equal(found.affine, scan.affine)
    x = scan.get_fdata()
    p = np.mean([1 / (1 + np.exp(-(x - threshold) / 40)) for threshold in (20, 70)], axis=0)
    assert_allclose(found.get_fdata(), np.stack([1 - p, p], axis=-1), atol=1e-5)
    uncertainty = nib.load(tmp_path / "masks" / "a_uncertainty.nii.gz").get_fdata().reshape(x.shape)
    assert_allclose(uncertainty, -(p * np.log2(p) + (1 - p) * np.log2(1 - p)), atol=1e-5)
    assert_array_equal(values_of(tmp_path / "masks" / "a.nii.gz"), p > 0.5)


def test_one_run_is_kept_as_it_is_and_of_several_one_array_is_held(run, scans, tmp_path, monkeypatch):
    kept, alive = [], []
    p = np.random.default_rng(0).dirichlet([1, 1], (12, 10, 8)).astype(np.float32)

    def probabilities(*given, **options):
        alive.append(sum(array() is not None for array in kept))
        kept.append(weakref.ref(array := np.moveaxis(p, -1, 0).copy()))
        return array

    monkeypatch.setattr("semivox.prediction.predictor.restore_probabilities", probabilities)
    for runs in ([run], [run] * 4):
        predict(runs, [scans / "a_0000.nii.gz"], output=tmp_path / str(len(runs)), probabilities=True)
    assert alive == [0, 0, 1, 1, 1]
    assert_array_equal(nib.load(tmp_path / "1" / "a_probabilities.nii.gz").dataobj, p)
    assert_array_equal(values_of(tmp_path / "1" / "a.nii.gz"), p.argmax(-1))


def test_maps_that_are_asked_for_later_are_made_later(run, scans, tmp_path):
    predict([run], [scans], output=tmp_path / "masks")
    predict([run], [scans], output=tmp_path / "masks", uncertainty=True)
    assert (tmp_path / "masks" / "b_uncertainty.nii.gz").exists()


def test_an_islet_goes_with_largest_component_only(run, scans, tmp_path):
    everything, largest = (
        predict([run], [scans / "b_0000.nii.gz"], output=tmp_path / str(kept), options=Options(largest_component=kept))
        for kept in (False, True)
    )
    assert values_of(everything[0])[10, 8, 7] == 1
    assert_array_equal(values_of(everything[0]).sum() - 1, values_of(largest[0]).sum())


def test_mirroring_takes_away_what_a_net_makes_of_left_and_right(scans, tmp_path):
    run = thresholding.write_run(tmp_path / "run", fields={"tilt": 30.0}, settings={"patch": (12, 10, 8)})
    predictor = Predictor(run, device="cpu")
    volume = read_image([scans / "b_0000.nii.gz"])
    turned = read_image([save(volume.array[0, ::-1], tmp_path / "turned.nii.gz")])
    for mirror in (False, True):
        p, q = (predictor.probabilities(scan, options=Options(mirror=mirror)) for scan in (volume, turned))
        assert np.allclose(p, q[:, ::-1], atol=1e-5) == mirror


def test_masks_hold_the_values_of_the_label_files(scans, tmp_path):
    run = thresholding.write_run(tmp_path / "run", label_values=(0, 300))
    (mask, _) = predict([run], [scans], output=tmp_path / "masks")
    assert set(np.unique(values_of(mask))) == {0, 300}
    run = thresholding.write_run(tmp_path / "dull", label_values=(0, 300), fields={"threshold": 1000.0})
    (empty, _) = predict([run], [scans], output=tmp_path / "empty")
    assert nib.load(mask).get_data_dtype() == nib.load(empty).get_data_dtype() == np.int16


def test_held_out_takes_the_cases_of_the_runs_split(tmp_path):
    data = write_phantom(tmp_path / "data", labelled=1, unlabelled=1, held_out=2, shape=(12, 12, 8))
    names = ("phantom_0002", "phantom_0003")
    run = thresholding.write_run(tmp_path / "run", held_out=names)
    masks = predict([run], [data], output=tmp_path / "masks", held_out=True)
    assert tuple(mask.name for mask in masks) == tuple(f"{name}.nii.gz" for name in names)
    with pytest.raises(ConfigError, match=r"one data folder with a dataset\.json"):
        predict([run], [data / "imagesTr"], output=tmp_path / "masks", held_out=True)
    none = thresholding.write_run(tmp_path / "none")
    with pytest.raises(ConfigError, match="holds no case out"):
        predict([none], [data], output=tmp_path / "masks", held_out=True)


def test_an_interrupted_prediction_leaves_whole_masks_only(run, scans, tmp_path, monkeypatch):
    saved, write = [], nib.save

    def cut(image, path):
        write(image, path)
        saved.append(path)
        if len(saved) == 2:
            Path(path).write_bytes(Path(path).read_bytes()[:40])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nib, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            predict([run], [scans], output=tmp_path / "masks")
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.nii.gz", "prediction.json"}
    masks = predict([run], [scans], output=tmp_path / "masks")
    assert [values_of(mask).sum() for mask in masks] == [144, 145]


def test_the_record_says_where_masks_come_from(run, scans, tmp_path):
    output = tmp_path / "masks"
    predict([run], [scans], output=output, options=Options(step_size=1.0, mirror=True))
    record = json.loads((output / "prediction.json").read_text())
    assert record["run"] == [str(run)]
    assert record["method"] == record["group"] == "thresholding"
    assert record["seed"] == 0
    assert record["options"] == {"step_size": 1.0, "mirror": True, "largest_component": None}
    assert record["split"] == "digest"
    assert [len(digest) for digest in record["weights"]] == [64]
    assert record["images"] == {name: [str(scans / f"{name}_0000.nii.gz")] for name in ("a", "b")}
    assert record["config"]["patch"] == [24, 24, 16]
    assert record["config"]["method"]["name"] == "thresholding"


def test_a_run_that_is_not_at_its_end_predicts_and_says_so_once(scans, tmp_path):
    notes, runs = [], [thresholding.write_run(tmp_path / f"run{step}", step=step) for step in (7, 3)]
    predict(runs, [scans], output=tmp_path / "masks", on_note=notes.append)
    assert [note.partition(str(tmp_path))[2] for note in notes if "not at its end" in note] == [
        "/run3 is not at its end: its weights are those of 3 of 7 steps"
    ]
    record = json.loads((tmp_path / "masks" / "prediction.json").read_text())
    assert (record["step"], record["steps"], record["finished"]) == ([7, 3], [7, 7], False)


@pytest.mark.parametrize("text", ["[]", "{", '{"images": {}}', '{"images": [], "weights": [], "options": {}}'])
def test_a_damaged_record_is_refused(run, scans, tmp_path, text):
    (tmp_path / "prediction.json").write_text(text)
    with pytest.raises(RunError, match=r"prediction\.json.*remove it with its masks"):
        predict([run], [scans], output=tmp_path)


def test_anothers_masks_do_not_pass_for_a_prediction(run, scans, tmp_path):
    label = save(np.ones((12, 10, 8), np.uint8), tmp_path / "labelsTr" / "b.nii.gz")
    with pytest.raises(ConfigError, match=r"b\.nii\.gz was not made by"):
        predict([run], [scans], output=label.parent)
    assert values_of(label).all()
    assert not (label.parent / "prediction.json").exists()


def test_a_gpu_without_memory_names_the_case_and_the_key_and_leaves_the_masks_before(
    run, scans, tmp_path, monkeypatch
):
    told = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free. Including all, 77 GiB are in use."
    method = method_class(method_module("thresholding"))  # the class that the run's copy has become
    whole = method.predict

    def too_much(self, image):
        if (image[..., 16, 15, 11] > 50).any():  # the islet of b, behind the padding
            raise torch.OutOfMemoryError(told)
        return whole(self, image)

    monkeypatch.setattr(method, "predict", too_much)
    with pytest.raises(RunError, match=r"case 'b': .*predict\.batch = 4 .*24x24x16.*1\.00 GiB free\).*config\.toml"):
        predict([run], [scans], output=tmp_path / "masks")
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"a.nii.gz", "prediction.json"}


def test_further_scans_join_the_record(run, scans, tmp_path):
    for name in ("a", "b"):
        predict([run], [scans / f"{name}_0000.nii.gz"], output=tmp_path / "masks")
    assert set(json.loads((tmp_path / "masks" / "prediction.json").read_text())["images"]) == {"a", "b"}


def test_masks_of_other_weights_or_options_never_mix(run, scans, tmp_path):
    output, other = tmp_path / "masks", thresholding.write_run(tmp_path / "other", fields={"threshold": 9.0})
    masks = predict([run], [scans], output=output)
    with pytest.raises(ConfigError, match="other weights or options"):
        predict([other], [scans], output=output)
    with pytest.raises(ConfigError, match="other weights or options"):
        predict([run], [scans], output=output, options=Options(mirror=True))
    with pytest.raises(ConfigError, match="other weights or options"):  # b would stay
        predict([other], [scans / "a_0000.nii.gz"], output=output, overwrite=True)
    predict([other], [scans], output=output, overwrite=True)
    assert values_of(masks[0]).all()


def test_a_scan_with_other_channels_is_refused_before_anything_is_written(scans, tmp_path):
    run = thresholding.write_run(tmp_path / "run", channels=("T1", "T2"))
    with pytest.raises(DatasetError, match=r"2 of 2 scans .*'a': found 1 channels in .*expected 2 \(T1, T2\)"):
        predict([run], [scans], output=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_two_scans_of_one_name_are_passed_over(run, scans, tmp_path):
    save(np.ones((8, 8, 8), np.float32), tmp_path / "more" / "a.nii.gz")
    with pytest.raises(PredictionError, match=r"a: found 2 channels in .*a name of its own") as stopped:
        predict([run], [scans, tmp_path / "more"], output=tmp_path / "masks")
    assert [mask.name for mask in stopped.value.masks] == ["b.nii.gz"]


def test_a_folder_without_scans_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no scan"):
        predict([run], [tmp_path / "empty"], output=tmp_path / "masks")


def test_a_mask_never_takes_its_scans_place(run, tmp_path):
    scan = save(np.ones((8, 8, 8), np.float32), tmp_path / "scans" / "a.nii.gz")
    before = scan.read_bytes()
    with pytest.raises(ConfigError, match="take its scan's place"):
        predict([run], [scan], output=tmp_path / "scans", overwrite=True)
    assert scan.read_bytes() == before


def test_runs_of_other_classes_are_not_averaged(run, scans, tmp_path):
    other = thresholding.write_run(tmp_path / "other", classes=("background", "liver"))
    with pytest.raises(ConfigError, match="classes are"):
        predict([run, other], [scans], output=tmp_path / "masks")


def test_a_run_without_a_checkpoint_says_so(run, scans, tmp_path):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="no checkpoint yet"):
        predict([run], [scans], output=tmp_path / "masks")


def test_a_step_size_of_zero_is_refused(run, scans, tmp_path):
    with pytest.raises(GeometryError, match="step size 0"):
        predict([run], [scans], output=tmp_path / "masks", options=Options(step_size=0.0))


def test_an_output_that_is_no_folder_is_refused(run, scans):
    with pytest.raises(RunError, match=r"cannot write into .*found a file, expected a folder"):
        predict([run], [scans], output=scans / "a_0000.nii.gz")
    with pytest.raises(RunError, match=r"cannot use .* for masks .*name another folder with -o"):
        predict([run], [scans], output=scans / "a_0000.nii.gz" / "masks")


def test_a_run_trained_in_half_precision_predicts_on_a_cpu(scans, tmp_path):
    run = thresholding.write_run(tmp_path / "run", settings={"precision": "bf16"})
    assert len(predict([run], [scans], output=tmp_path / "masks", device="cpu")) == 2


def test_an_unknown_device_is_refused(run, scans, tmp_path):
    with pytest.raises(ConfigError, match="cuda:0"):
        predict([run], [scans], output=tmp_path / "masks", device="cuda:0")


def test_the_mask_of_another_scan_of_that_name_is_refused_and_replaced_only_when_asked(run, scans, tmp_path):
    elsewhere = shutil.copytree(scans, tmp_path / "elsewhere")
    predict([run], [scans], output=tmp_path / "masks", device="cpu")
    with pytest.raises(ConfigError, match=r"a.nii.gz is the mask of .*found another scan of that name: .*--overwrite"):
        predict([run], [elsewhere], output=tmp_path / "masks", device="cpu")
    predict([run], [elsewhere], output=tmp_path / "masks", device="cpu", overwrite=True)
    record = json.loads((tmp_path / "masks" / "prediction.json").read_text())
    assert str(elsewhere.resolve()) in record["images"]["a"][0]


def test_maps_of_other_weights_do_not_outlive_masks_that_are_overwritten(run, scans, tmp_path):
    words = {"output": tmp_path / "masks", "device": "cpu"}
    predict([run], [scans], probabilities=True, uncertainty=True, **words)
    assert (tmp_path / "masks" / "a_probabilities.nii.gz").exists()
    predict([run], [scans], overwrite=True, **words)
    assert not list((tmp_path / "masks").glob("a_*.nii.gz"))


def test_masks_of_another_way_to_predict_are_not_mixed(run, scans, tmp_path):
    words = {"output": tmp_path / "masks", "device": "cpu"}
    predict([run], [scans], **words)
    text = (run / "config.toml").read_text()
    assert "largest_component = false" in text
    (run / "config.toml").write_text(text.replace("largest_component = false", "largest_component = true"))
    with pytest.raises(ConfigError, match="other weights or options"):
        predict([run], [scans], **words)
