"""A folder of pictures goes through every verb as a folder of scans does, and nothing is turned on the way."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

import thresholding
from semivox.config.keys import resolve_config
from semivox.data.checking import check_dataset, check_pool
from semivox.data.dataset import read_dataset
from semivox.data.pictures import drawn_as_scan
from semivox.data.preparation import prepare_image, prepare_label
from semivox.data.splitting import make_split
from semivox.data.volume import read_image, read_label
from semivox.errors import GeometryError
from semivox.nets.build import MakeNet
from semivox.planning.fingerprint import fingerprint, make_recipe
from semivox.planning.plan import plan_dataset
from semivox.prediction.files import predict
from semivox.reporting.report import write_report
from semivox.reporting.slices import draw_slice
from semivox.scoring.evaluation import evaluate_masks
from semivox.training.start import train
from toy_pictures import toy_picture, write_toy_pictures

UNET = {"name": "unet", "filters": 8, "levels": 3, "dropout": 0.0}
DEEPLAB = {"name": "smp:DeepLabV3Plus", "options": {"encoder_name": "resnet18", "decoder_channels": 16}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a folder of five labelled and three unlabelled pictures; not to be written to."""
    return write_toy_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def train_pictures(data, output, cache, *, net=UNET, **settings):
    """Train on crops of 32 x 32 pixels; the first two labels, the last one held out."""
    split = make_split(read_dataset(data), labelled=2, held_out=1)
    values = {"dims": 2, "patch": [32, 32], "steps": 2, "batch_labelled": 2, "batch_unlabelled": 2, "net": net}
    return train(data, output=output, cache=cache, split=split, device="cpu", settings=values | settings)


def score(run: Path, data: Path, output: Path) -> dict:
    """Predict and evaluate what a run holds out, and return scores.json."""
    predict([run], [data], output=output / "masks", held_out=True)
    evaluate_masks(output / "masks", data, output / "scores.csv", cases=run / "split.json")
    return json.loads((output / "scores.json").read_text())


def test_a_trained_unet_finds_the_shapes_where_they_are(data, cache, tmp_path):
    settings = {"steps": 60, "method": {"name": "supervised", "optimizer": "adamw", "lr": 0.01, "intensity": "none"}}
    train_pictures(data, tmp_path / "run", cache, **settings)
    assert json.loads((tmp_path / "run/run.json").read_text())["pictures"]
    summary = score(tmp_path / "run", data, tmp_path)
    assert summary["unit"] == "pixel"
    assert summary["miou"]["mean"] > 0.8
    assert summary["miou"]["pixels"] < 40 * 56, "the rim between ground and shapes is ignored"
    with Image.open(tmp_path / "masks/case_04.png") as mask:
        assert mask.size == (56, 40)
        assert set(np.unique(np.asarray(mask))) == {0, 1, 2}


@pytest.mark.parametrize(
    ("net", "method"),
    [(UNET, "mean_teacher"), (UNET, "arco"), (UNET, "atso"), (DEEPLAB, "supervised"), (DEEPLAB, "arco")],
)
def test_methods_train_on_pictures_with_any_2d_net_up_to_the_report(net, method, data, cache, tmp_path):
    train_pictures(data, tmp_path / "run", cache, net=net, method={"name": method})
    summary = score(tmp_path / "run", data, tmp_path)
    assert summary["mean"]["missing"] == 0
    report = write_report([tmp_path / "scores.csv"], tmp_path / "report.html").read_text()
    assert "HD95 (pixel)" in report
    value = re.search(r"mIoU of all pictures together, the mean over runs: [\w ]+ (\d\.\d{3})", report)
    assert value
    assert float(value[1]) == pytest.approx(summary["miou"]["mean"], abs=5e-4)
    assert report.count('src="data:image/png') == 3


def test_a_trained_deeplab_predicts_without_the_file_of_its_first_weights(data, cache, tmp_path):
    options = DEEPLAB["options"]
    first = MakeNet(DEEPLAB["name"], dims=2, channels=3, classes=3, options=options, seed=7)()
    file = tmp_path / "weights.pth"
    torch.save(first.encoder.inner.state_dict(), file)
    net = DEEPLAB | {"options": options | {"encoder_weights_file": str(file)}}
    train_pictures(data, tmp_path / "run", cache, net=net, method={"name": "supervised"})
    file.unlink()
    assert score(tmp_path / "run", data, tmp_path)["scored"] == 1


@pytest.mark.parametrize(("ending", "suffix"), [(".png", ""), (".tif", "_0000"), (".jpg", "")])
def test_a_whole_folder_has_no_fault_whatever_the_format(ending, suffix, tmp_path):
    folder = write_toy_pictures(tmp_path / "data", cases=3, unlabelled=1, ending=ending, suffix=suffix)
    dataset = read_dataset(folder)
    assert check_dataset(folder) == []
    assert check_pool(dataset, make_split(dataset)) == []
    assert dataset.labelled == ("case_00", "case_01")


def test_faults_of_pictures_are_told_all_at_once_and_by_training_too(tmp_path):
    folder = write_toy_pictures(tmp_path / "data", cases=6, unlabelled=1)
    images, labels = folder / "imagesTr", folder / "labelsTr"
    image, label = toy_picture(0, (40, 56))
    Image.fromarray(image).convert("RGBA").save(images / "case_00_0000.png")
    Image.open(images / "case_01_0000.png").convert("L").save(images / "case_01_0000.png")
    Image.fromarray(image).convert("P").save(images / "case_02_0000.png")
    (labels / "case_03.png").unlink()
    Image.fromarray(label).save(labels / "case_03.jpg")
    Image.fromarray(label.T).save(labels / "case_04.png")
    (images / "case_05_0000.png").write_bytes((images / "case_05_0000.png").read_bytes()[:-500])
    expected = {
        "case_00": "case_00_0000.png cannot be read: .*alpha",
        "case_01": "channels in case_01_0000.png: found 1, expected 3",
        "case_02": "case_02_0000.png holds indices of a palette",
        "case_03": "label case_03.jpg is a JPEG: .*export the label as PNG",
        "case_04": r"shape of the label differs from the image's: found \[56, 40, 1\], expected \[40, 56, 1\]",
        "case_05": "case_05_0000.png cannot be read: .*truncated",
    }
    found = check_dataset(folder)
    for case, words in expected.items():
        said = [str(fault) for fault in found if fault.case == case]
        assert any(re.search(words, text) for text in said), (words, said)
    dataset = read_dataset(folder)
    told = {fault.case for fault in check_pool(dataset, make_split(dataset))}
    assert told == {"case_00", "case_01", "case_02", "case_03", "case_04"}, "headers do not show truncated pixels"


def test_the_plan_of_pictures_is_2d_with_slices_of_rows_and_columns(data):
    plan = plan_dataset(data, device="cpu", memory=2 * 10**9)
    assert (plan.values["dims"], plan.values["slice_axis"]) == (2, 2)
    assert plan.values["patch"] == (40, 56), "rows first, close to the median picture"
    assert plan.values["net"]["name"] == "unet"


def test_the_net_sees_a_picture_upright_with_its_rows_first(data, tmp_path):
    dataset = read_dataset(data)
    split = make_split(dataset, labelled=2)
    config, _ = resolve_config([("test", {"dims": 2, "patch": [32, 32]})])
    recipe = make_recipe(dataset, split, config, fingerprint(dataset, split))
    case = dataset.case("case_01")
    image, geometry = prepare_image(read_image(case.images), recipe)
    expected, label = toy_picture(1, (36, 64))
    assert image.shape == (3, 1, 36, 64)
    for channel in range(3):
        assert np.corrcoef(image[channel, 0].ravel(), expected[..., channel].ravel())[0, 1] > 0.999999
    assert_array_equal(prepare_label(read_label(case.label), geometry, recipe)[0], label)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_a_mask_lies_on_its_picture_pixel_by_pixel_and_so_do_its_maps(ending, tmp_path):
    picture = np.full((12, 30), 10, np.uint8)
    picture[:3, :5], picture[10, 22:] = 90, 90
    (tmp_path / "pictures").mkdir()
    Image.fromarray(picture).save(tmp_path / f"pictures/a{ending}", **({"quality": 100} if ending == ".jpg" else {}))
    run = thresholding.write_run(tmp_path / "run", settings={"dims": 2, "patch": (8, 8)}, label_values=(0, 7))
    masks = predict([run], [tmp_path / "pictures"], output=tmp_path / "masks", probabilities=True)
    assert [path.name for path in masks] == ["a.png"]
    with Image.open(masks[0]) as mask:
        assert mask.mode == "P"
        assert_array_equal(np.asarray(mask), 7 * (picture > 50))
    maps = np.asarray(nib.load(tmp_path / "masks/a_probabilities.nii.gz").dataobj)
    assert_array_equal(maps[:, :, 0, 1] > 0.5, picture > 50)


def test_a_report_shows_a_picture_upright(tmp_path):
    picture = np.zeros((1, 20, 40, 1), np.float32)
    picture[0, :10, :10] = 1
    nothing = np.zeros((20, 40, 1), int)
    (tmp_path / "a.png").write_bytes(draw_slice(*map(drawn_as_scan, (picture, nothing, nothing)), (1, 1, 1)))
    with Image.open(tmp_path / "a.png") as drawn:
        shown = np.asarray(drawn.convert("L").resize((40, 20)))
    assert_array_equal(shown > 128, picture[0, ..., 0] > 0.5)


def test_a_mask_of_another_size_is_refused(data, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((56, 40), np.uint8)).save(tmp_path / "masks/case_00.png")
    with pytest.raises(GeometryError, match=r"case_00: .*shape: found \[56, 40, 1\], expected \[40, 56, 1\]"):
        evaluate_masks(tmp_path / "masks", data, tmp_path / "scores.csv")
