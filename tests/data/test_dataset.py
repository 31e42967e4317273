"""Data folders: nnU-Net and Decathlon layouts, labels and channels, further folders of unlabelled scans."""

import json
from pathlib import Path

import pytest

from semivox.data.checking import check_dataset, check_pool
from semivox.data.dataset import case_name, expected_files, list_scans, read_dataset
from semivox.data.splitting import make_split
from semivox.errors import DatasetError
from toys import write_toy_dataset


def names_only(folder: Path, files: list[str], **description: object) -> Path:
    """Make a folder of empty files: nothing here opens an image."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1}, **description}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_an_image_without_a_label_is_unlabelled(tmp_path):
    dataset = read_dataset(write_toy_dataset(tmp_path / "toy", cases=3, unlabelled=1, channels=2, classes=3))
    assert (dataset.name, dataset.channels, dataset.classes) == (
        "toy", ("MR_0", "MR_1"), ("background", "blob_1", "blob_2")
    )  # fmt: skip
    assert dataset.labelled == ("case_00", "case_01")
    assert [path.name for path in dataset.case("case_02").images] == ["case_02_0000.nii.gz", "case_02_0001.nii.gz"]
    assert dataset.case("case_02").label is None


def test_a_sealed_data_set_has_all_cases_and_no_label_but_those_that_are_named(tmp_path):
    files = [f"{part}/{name}.nii.gz" for part in ("imagesTr", "labelsTr") for name in "abc"]
    folder = names_only(tmp_path, [*files, "imagesTs/d.nii.gz", "labelsTs/d.nii.gz"])
    dataset = read_dataset(folder)
    assert dataset.labelled == ("a", "b", "c")
    sealed = dataset.sealed(["b"])
    assert sealed.labelled == ("b",)
    assert sealed.case("b") == dataset.case("b")
    assert [*sealed.cases] == ["a", "b", "c"]
    assert (dataset.case("d").label, sealed.case("d").label) == (folder / "labelsTs/d.nii.gz", None)


def test_a_decathlon_folder_is_read_as_it_is(tmp_path):
    folder = names_only(
        tmp_path, ["imagesTr/la_7.nii.gz", "imagesTr/._la_7.nii.gz", "labelsTr/la_7.nii.gz", "imagesTs/la_1.nii.gz"]
    )
    description = {"name": "Task", "modality": {"1": "T2", "0": "T1"}, "labels": {"0": "nothing", "2": "a", "1": "b"}}
    (folder / "dataset.json").write_text(json.dumps(description))
    dataset = read_dataset(folder)
    assert dataset.channels == ("T1", "T2")
    assert dataset.classes == ("nothing", "b", "a")
    assert (*dataset.cases,) == dataset.labelled == ("la_7",)  # not what macOS leaves beside it
    assert dataset.case("la_7").images == (folder / "imagesTr/la_7.nii.gz",)
    assert list(dataset.tests) == ["la_1"]
    assert "la_1" not in dataset.cases


def test_class_indices_follow_the_values_in_the_files_and_ignore_is_no_class(tmp_path):
    labels = {"ignore": 9, "tumour": 500, "background": 0, "liver": 3}
    dataset = read_dataset(names_only(tmp_path, ["imagesTr/a.mha"], labels=labels))
    assert dataset.classes == ("background", "liver", "tumour")
    assert dataset.label_values == (0, 3, 500)
    assert dataset.ignore == 9


def test_further_unlabelled_folders_join_under_names_of_their_own(tmp_path):
    folder = names_only(
        tmp_path / "set",
        ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesUn/b.nrrd", "imagesUn/a_0000.nii", "labelsTr/b.nii.gz"],
        spacing_is_nominal=True,
    )
    for name in ("a.nii.gz", "scan 2019.mha", "notes.txt"):
        (tmp_path / "more").mkdir(exist_ok=True)
        (tmp_path / "more" / name).touch()
    dataset = read_dataset(folder, unlabelled=tmp_path / "more")
    assert list(dataset.cases) == ["a", "b", "imagesUn-a", "more-a", "scan 2019"]
    assert dataset.added == ("more-a", "scan 2019")
    assert dataset.labelled == ("a",)  # the label of b belongs to no case of imagesTr
    assert dataset.case("more-a").images == (tmp_path / "more/a.nii.gz",)
    assert dataset.spacing_is_nominal


def test_subfolders_of_further_unlabelled_scans_are_read_under_their_names_and_labels_never(tmp_path):
    files = ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTs/t_0000.nii.gz"]
    folder = names_only(tmp_path / "more/set", files)
    for name in (
        "p1/t2.nii.gz", "p1/late/t2.nii.gz", "p2/t2.nii.gz", "a.nii.gz", "labelsTr/b.nii.gz", ".trash/c.nii.gz",
        "p3/notes.txt",
    ):  # fmt: skip
        (tmp_path / "more" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "more" / name).touch()
    dataset = read_dataset(folder, unlabelled=tmp_path / "more")
    assert dataset.added == ("more-a", "p1-late-t2", "p1-t2", "p2-t2"), "nothing of the data set itself comes in again"
    assert dataset.case("p1-late-t2").images == (tmp_path / "more/p1/late/t2.nii.gz",)
    assert [*dataset.tests] == ["t"]
    with pytest.raises(DatasetError, match="zero images"):
        read_dataset(folder, unlabelled=folder)


def test_the_channels_of_a_scan_in_a_subfolder_are_one_case(tmp_path):
    folder = names_only(
        tmp_path / "set", ["imagesTr/a_0000.nii", "imagesTr/a_0001.nii"], channel_names={"0": "T1", "1": "T2"}
    )
    for name in ("p1/x_0000.nii", "p1/x_0001.nii", "p2/x_0000.nii"):
        (tmp_path / "more" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "more" / name).touch()
    dataset = read_dataset(folder, unlabelled=tmp_path / "more")
    assert {name: len(dataset.case(name).images) for name in dataset.added} == {"p1-x": 2, "p2-x": 1}


def test_the_channels_of_further_unlabelled_scans_join_as_one_case_and_a_missing_one_is_told(tmp_path):
    folder = write_toy_dataset(tmp_path / "toy", cases=1, unlabelled=0, channels=2, shape=(6, 5, 4))
    more = tmp_path / "more"
    more.mkdir()
    other = write_toy_dataset(tmp_path / "other", cases=3, channels=2, shape=(6, 5, 4), seed=1)
    for path in (other / "imagesTr").iterdir():
        path.rename(more / path.name)
    dataset = read_dataset(folder, unlabelled=more)
    assert sorted(dataset.added) == ["case_01", "case_02", "more-case_00"], "a name that is taken gets the folder's"
    for name in dataset.added:
        stem = name.removeprefix("more-")
        assert dataset.case(name).images == (more / f"{stem}_0000.nii.gz", more / f"{stem}_0001.nii.gz")
    assert check_dataset(folder, unlabelled=more) == []
    (more / "case_01_0000.nii.gz").unlink()
    dataset = read_dataset(folder, unlabelled=more)
    split = make_split(dataset, labelled=None)
    for faults in (check_dataset(folder, unlabelled=more), check_pool(dataset, split)):
        assert [(fault.severity, fault.case, fault.what, fault.found) for fault in faults] == [
            ("error", "case_01", "missing channel", "case_01_0001.nii.gz")
        ]
        assert "case_01_0000" in faults[0].expected


def test_a_picture_with_all_colours_may_have_the_first_channels_suffix_and_a_scan_may_not(tmp_path):
    names = ["imagesTr/a_0000.png", "imagesTr/b.tif", "imagesTr/c_0000.nii", "labelsTr/a.png", "labelsTr/b.png"]
    dataset = read_dataset(names_only(tmp_path, names, channel_names={"0": "red", "1": "green", "2": "blue"}))
    assert dataset.labelled == ("a", "b")
    expected = {name: expected_files(case, 3) for name, case in dataset.cases.items()}
    assert expected == {"a": None, "b": None, "c": ("c_0000", "c_0001", "c_0002")}


def test_an_unknown_case_is_refused_with_the_nearest_name(tmp_path):
    dataset = read_dataset(names_only(tmp_path, ["imagesTr/patient_1.nii"]))
    with pytest.raises(DatasetError, match="no case 'patient_2': did you mean 'patient_1'"):
        dataset.case("patient_2")


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, "region labels are not supported: found regions 'whole'"),
        ({"labels": {"background": 0, "a": 1}, "regions_class_order": [1]}, "region labels are not supported"),
        ({"labels": {"background": 0}}, "'labels': found {'background': 0}"),
        ({"labels": {"liver": 1, "kidney": 2}}, "0 for the background"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "a name or value twice"),
        ({"labels": {"background": 0, "a": 1, "ignore": 1}}, "a name or value twice"),
        ({"labels": {"background": 0, "a": 1.5}}, "'a': 1.5, expected one whole number per class"),
        ({"labels": None}, "'labels': found None"),
        ({"labels": {str(n): n for n in range(256)}}, "'labels': found 256 classes, expected at most 255"),
        ({"channel_names": {"1": "MRI"}}, "'channel_names': found {'1': 'MRI'}"),
        ({"file_ending": ".gif"}, "'file_ending': found '.gif'"),
        ({"spacing_is_nominal": "yes"}, "'spacing_is_nominal': found 'yes'"),
        ({"machine_made": ["case_00"]}, "'machine_made': found ['case_00']"),
        ({"segment_codes": {"liver": {"type": ["1", "SCT", "Liver"]}}}, "'segment_codes': found {'type'"),
        ({"segment_codes": {"liver": {"category": [1, "SCT", "A"], "type": ["1", "SCT", "B"]}}}, "'segment_codes'"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused_with_what_to_do(description, words, tmp_path):
    with pytest.raises(DatasetError) as caught:
        read_dataset(names_only(tmp_path, ["imagesTr/a.nii"], **description))
    assert words in str(caught.value)
    assert str(tmp_path / "dataset.json") in str(caught.value)
    assert "expected" in str(caught.value)


def test_everything_wrong_with_a_folder_is_said_at_once(tmp_path):
    names_only(tmp_path, [], labels={}, channel_names={})
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path, unlabelled=tmp_path / "gone")
    for words in ("'labels'", "'channel_names'", "imagesTr: zero images: found no such folder", "gone: zero images"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_an_unreadable_description_is_refused_with_an_example(text, tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/a.nii").touch()
    if text is not None:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r'dataset\.json: .* expected .*"channel_names"'):
        read_dataset(tmp_path)


def test_scans_for_prediction_are_grouped_by_channel(tmp_path):
    names_only(tmp_path, ["b_0001.nii", "b_0000.nii", "a.nrrd", "c_2019.nii"])
    scans = list_scans([tmp_path], 2)
    assert {name: [path.name for path in files] for name, files in scans.items()} == {
        "a": ["a.nrrd"], "b": ["b_0000.nii", "b_0001.nii"], "c_2019": ["c_2019.nii"],
    }  # fmt: skip
    assert list(list_scans([tmp_path / "b_0001.nii", tmp_path / "a.nrrd"], 1)) == ["a", "b_0001"]
    with pytest.raises(DatasetError, match=r"gone\.nii: found nothing, expected a folder or a scan"):
        list_scans([tmp_path / "gone.nii"], 1)
    with pytest.raises(DatasetError, match=r"dataset\.json: found a file of unknown format"):
        list_scans([tmp_path / "dataset.json"], 1)


def test_only_the_index_of_a_channel_is_cut_off_a_name():
    assert case_name(Path("a_0000.nii.gz"), 1) == "a"
    assert case_name(Path("a_0001.nii.gz"), 1) == "a_0001"
    assert case_name(Path("a_0001.nii.gz"), 2) == "a"
