"""DICOM in, DICOM SEG out, as a user asks for it: `predict` and `run` on a tree, and `export --format dicom-seg`."""

import gzip
import json
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread

import thresholding
from dicom_files import (
    AXIAL,
    OBLIQUE,
    ORIGIN,
    SECRETS,
    SPACING,
    THICKNESS,
    normal,
    write_multiframe,
    write_segmentation,
    write_series,
)
from semivox.exchange.encoding import Maker
from semivox.exchange.encoding import write_segmentation as write_segmentation_of
from semivox.exchange.importing import named_series
from semivox.workflow import course

SHAPE = (7, 6, 5)  # columns, rows, slices
REAL = Path(os.environ.get("SEMIVOX_DATA", "/nothing")) / "dicom"
CODES = {"liver": {"category": ["123037004", "SCT", "Organ"], "type": ["10200004", "SCT", "Liver"]}}


@pytest.fixture
def values() -> np.ndarray:
    """Stored values, of which those above 50 are what the net calls liver."""
    values = np.random.default_rng(0).integers(-90, 0, SHAPE).astype(np.int16)
    values[1:3, 2, 0] = values[6, 5, 3] = values[0, 0, 4] = 200  # slices 1 and 2 are empty
    return values


@pytest.fixture
def run(tmp_path) -> Path:
    return write_run(tmp_path / "run", (SPACING[1], SPACING[0], THICKNESS))


def write_run(path: Path, spacing: tuple[float, ...]) -> Path:
    """Write a run whose threshold sees stored values, voxel by voxel, and that knows the codes of its class."""
    words = {"classes": ("background", "liver"), "channels": ("CT",), "settings": {"spacing": spacing}}
    made = thresholding.write_run(path, **words)
    facts = json.loads((made / "run.json").read_text())
    (made / "run.json").write_text(json.dumps(facts | {"segment_codes": CODES}))
    return made


def in_space(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """Return where every voxel of each segment lies, in LPS mm, from the raw bits and headers alone."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    found: dict[int, set[tuple[float, ...]]] = {}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        named = groups if "SegmentIdentificationSequence" in groups else shared  # shared, where there is one segment
        own = found.setdefault(named.SegmentIdentificationSequence[0].ReferencedSegmentNumber, set())
        for row, column in np.argwhere(frame):
            place = corner + column * columns * cosines[:3] + row * rows * cosines[3:]
            own.add(tuple(np.round(place, 1) + 0.0))
    return found


def mask_in_space(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """Return where every voxel of each value of a NIfTI lies, in LPS mm."""
    image = nib.load(path)
    array, found = np.asarray(image.dataobj), {}
    for value in sorted({*np.unique(array)} - {0}):
        ras = np.argwhere(array == value) @ image.affine[:3, :3].T + image.affine[:3, 3]
        found[int(value)] = {tuple(np.round(place, 1) + 0.0) for place in ras * (-1, -1, 1)}
    return found


def by_pydicom(path: Path, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the one segment in the voxels of a NIfTI, frame by frame, from the raw bits and headers alone."""
    seg = pydicom.dcmread(path)
    shared, label = seg.SharedFunctionalGroupsSequence[0], np.zeros(shape, np.uint8)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.nonzero(frame)
        lps = corner + np.outer(column, columns * cosines[:3]) + np.outer(row, rows * cosines[3:])
        inverse = np.linalg.inv(affine)
        voxels = (lps * (-1, -1, 1)) @ inverse[:3, :3].T + inverse[:3, 3]
        np.testing.assert_allclose(voxels, np.rint(voxels), atol=0.02)  # of a voxel
        label[tuple(np.rint(voxels).astype(int).T)] = 1
    return label


def by_highdicom(path: Path, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the segments as highdicom reads them, in the voxels of a NIfTI."""
    volume = segread(path).get_volume(combine_segments=True)
    steps = np.rint(np.linalg.inv(affine) @ np.diag([-1, -1, 1, 1]) @ volume.affine).astype(int)
    found, label = np.argwhere(volume.array), np.zeros(shape, np.uint8)
    label[tuple((found @ steps[:3, :3].T + steps[:3, 3]).T)] = volume.array[tuple(found.T)]
    return label


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [
        (AXIAL, (SPACING[1], SPACING[0], THICKNESS)),
        (OBLIQUE, (SPACING[1], SPACING[0], THICKNESS)),
        ((0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (THICKNESS, SPACING[1], SPACING[0])),
    ],
    ids=["axial", "oblique", "sagittal"],
)
def test_predict_writes_a_segmentation_where_the_voxels_of_a_mask_lie(semivox, tmp_path, values, orientation, spacing):
    write_run(tmp_path / "run", spacing)
    sources = write_series(tmp_path / "tree", values, orientation=orientation)
    code, out, err = semivox("predict", "run", "tree", "-o", "masks", "--trust")
    assert (code, out) == (0, "1 masks: masks\n"), err
    mask, seg = Path("masks/case_001.nii.gz"), Path("masks/case_001.seg.dcm")
    # by hand: where the voxels above the threshold lie
    across, down = np.array(orientation[:3]) * SPACING[1], np.array(orientation[3:]) * SPACING[0]
    expected = {
        tuple(np.round(ORIGIN + x * across + y * down + z * THICKNESS * normal(orientation), 1) + 0.0)
        for x, y, z in np.argwhere(values > 50)
    }
    assert in_space(seg) == {1: expected}
    assert mask_in_space(mask) == {1: expected}
    image = nib.load(mask)
    np.testing.assert_array_equal(by_highdicom(seg, image.affine, image.shape), np.asarray(image.dataobj))
    made = pydicom.dcmread(seg)
    referred = [item.ReferencedSOPInstanceUID for item in made.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
    assert sorted(referred) == sorted(one.SOPInstanceUID for one in sources)
    by_place = {tuple(np.round(one.ImagePositionPatient, 3)): one.SOPInstanceUID for one in sources}
    for groups in made.PerFrameFunctionalGroupsSequence:
        place = tuple(np.round(groups.PlanePositionSequence[0].ImagePositionPatient, 3))
        origin = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert origin.ReferencedSOPInstanceUID == by_place[place]
    assert len(made.PerFrameFunctionalGroupsSequence) == 3, "empty frames are left out"


def test_a_segmentation_says_what_made_it_and_belongs_to_the_patient(semivox, tmp_path, values, run):
    (source, *_) = write_series(tmp_path / "tree", values)
    assert semivox("predict", "run", "tree", "-o", "masks", "--trust")[0] == 0
    made = pydicom.dcmread("masks/case_001.seg.dcm")
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert made[name].value == source[name].value
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    (segment,) = made.SegmentSequence
    told = (segment.SegmentLabel, segment.SegmentAlgorithmType, segment.SegmentAlgorithmName)
    assert told == ("liver", "AUTOMATIC", "semivox")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    told = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert "thresholding" in told.AlgorithmParameters
    assert json.loads(Path("masks/prediction.json").read_text())["weights"][0] in told.AlgorithmParameters
    assert made.SegmentationType == "BINARY"


def test_no_output_but_the_segmentation_tells_who_was_scanned(semivox, tmp_path, values, run):
    tree = tmp_path / "Doe_Jane/20230405"
    sources = write_series(tree / "ct", values)
    assert semivox("predict", "run", str(tmp_path / "Doe_Jane"), "-o", "masks", "--trust")[0] == 0
    assert nothing_of(sources, Path("masks")) == ["masks/case_001.seg.dcm"]


def nothing_of(sources, folder: Path) -> list[str]:
    """Return the files of a folder in which something of the sources stands."""
    secrets = [*SECRETS.values(), "Doe", "Jane", "4711"]
    for one in sources:
        secrets += [one.SOPInstanceUID, one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID]
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        content += gzip.decompress(content) if path.suffix == ".gz" else b""
        if any(secret.encode() in content + str(path).encode() for secret in secrets):
            found.append(str(path))
    return found


def test_frames_of_one_file_are_referred_to_by_their_number_whatever_their_order(semivox, tmp_path, values, run):
    order = [3, 0, 4, 1, 2]
    one = write_multiframe(tmp_path / "tree", values, order=order)
    groups = one.PerFrameFunctionalGroupsSequence
    for each in groups:  # as some scanners write it: nothing shared
        each.PlaneOrientationSequence = one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    del one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    one.save_as(tmp_path / "tree/all.dcm")
    code, _, err = semivox("predict", "run", "tree", "-o", "masks", "--trust")
    assert code == 0, err
    made = pydicom.dcmread("masks/case_001.seg.dcm")
    for frame in made.PerFrameFunctionalGroupsSequence:
        number = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        place = groups[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == place
    assert in_space(Path("masks/case_001.seg.dcm")) == mask_in_space(Path("masks/case_001.nii.gz")) != {}


def test_a_series_in_several_files_of_many_frames_is_refused(semivox, tmp_path, values, run):
    first = write_multiframe(tmp_path / "tree/1", values, order=range(5))
    second = write_multiframe(tmp_path / "tree/2", values, order=range(5))
    second.SeriesInstanceUID = first.SeriesInstanceUID
    for frame in second.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += 5 * THICKNESS
    second.save_as(tmp_path / "tree/2/all.dcm")
    code, _, err = semivox("predict", "run", "tree", "-o", "masks", "--trust")
    assert (code, err.count("\n"), "found 2 files of many frames" in err) == (2, 1, True), err
    assert not Path("masks").exists()


def test_names_of_patients_and_classes_keep_their_letters(tmp_path, values):
    for one in write_series(tmp_path / "tree", values):
        one.SpecificCharacterSet, one.PatientName = "ISO_IR 100", "Müller^Jörg"
        one.save_as(tmp_path / "tree" / f"{one.InstanceNumber:03d}.dcm")
    maker = Maker("supervised", ("CT",), ("a" * 64,), {3: "Größe œ"}, {})
    label = np.where(values > 50, 3, 0).astype(np.uint8)
    write_segmentation_of(label, named_series(tmp_path / "tree")["case_001"], tmp_path / "a.seg.dcm", maker=maker,
                          automatic=False)  # fmt: skip
    made = pydicom.dcmread(tmp_path / "a.seg.dcm")
    (segment,) = made.SegmentSequence
    assert (str(made.PatientName), segment.SegmentLabel) == ("Müller^Jörg", "Größe œ")
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue", "a class without codes"


def test_an_empty_mask_is_a_segmentation_of_nothing(semivox, tmp_path, values, run):
    write_series(tmp_path / "tree", np.minimum(values, 0))
    assert semivox("predict", "run", "tree", "-o", "masks", "--trust")[0] == 0
    made = pydicom.dcmread("masks/case_001.seg.dcm")
    assert (made.NumberOfFrames, int(made.pixel_array.sum())) == (5, 0)
    assert [segment.SegmentLabel for segment in made.SegmentSequence] == ["liver"]
    assert segread("masks/case_001.seg.dcm").get_volume(combine_segments=True).array.sum() == 0


def test_the_same_call_again_makes_nothing_anew_and_a_newer_mask_a_new_segmentation(semivox, tmp_path, values, run):
    write_series(tmp_path / "tree", values)
    words = ("predict", "run", "tree", "-o", "masks", "--trust")
    assert semivox(*words)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in Path("masks").rglob("case*")}
    assert semivox(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("masks").rglob("case*")} == before
    assert semivox(*words, "--overwrite")[0] == 0
    assert Path("masks/case_001.seg.dcm").stat().st_mtime_ns > before[Path("masks/case_001.seg.dcm")]


def test_a_tree_with_other_patients_is_refused_where_masks_lie_of_these(semivox, tmp_path, values, run):
    write_series(tmp_path / "tree", values)
    write_series(tmp_path / "other", values[::-1], patient="p2")
    assert semivox("predict", "run", "tree", "-o", "masks", "--trust")[0] == 0
    before = sorted(Path("masks").rglob("*"))
    code, _, err = semivox("predict", "run", "other", "-o", "masks", "--trust")
    assert (code, err.count("\n")) == (2, 1)
    assert "found another scan, expected that of" in err
    assert sorted(Path("masks").rglob("*")) == before


@pytest.fixture
def imported(semivox, tmp_path, values, run) -> Path:
    """A tree of two patients, as a data set, with masks of both that bear a second class."""
    for patient, moved in (("p1", values), ("p2", values[::-1])):
        write_series(tmp_path / "tree" / patient, moved, patient=patient, orientation=OBLIQUE)
    assert semivox("import", "tree", "-o", "data")[0] == 0
    assert semivox("predict", "run", "data/imagesTr", "-o", "masks", "--trust")[0] == 0
    return tmp_path


def test_masks_of_an_imported_data_set_are_written_and_corrected_ones_say_so(semivox, imported):
    code, out, err = semivox("export", "--format", "dicom-seg", "run", "masks", "tree", "-o", "segs")
    assert (code, out, "note" in err) == (0, "2 DICOM segmentations: segs\n", False), err
    for case in ("case_001", "case_002"):
        assert in_space(Path(f"segs/{case}.seg.dcm")) == mask_in_space(Path(f"masks/{case}.nii.gz")) != {}
        assert pydicom.dcmread(f"segs/{case}.seg.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    # a person's program turns axes as it likes
    image = nib.load("masks/case_001.nii.gz")
    array, affine = np.asarray(image.dataobj).copy(), image.affine
    array[3, 3, 3] = 1
    Path("corrected").mkdir()
    turned = nib.Nifti1Image(array, affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, "corrected/case_001.nii.gz")
    code, out, err = semivox("export", "--format", "dicom-seg", "run", "corrected", "tree", "-o", "more")
    assert (code, out) == (0, "1 DICOM segmentations: more\n"), err
    assert "tied to their series by name and grid alone (case_001)" in err
    assert in_space(Path("more/case_001.seg.dcm")) == mask_in_space(Path("corrected/case_001.nii.gz"))
    assert pydicom.dcmread("more/case_001.seg.dcm").SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_a_segmentation_is_read_again_as_the_same_label(semivox, imported):
    assert semivox("export", "--format", "dicom-seg", "run", "masks", "tree", "-o", "segs")[0] == 0
    Path("segs").rename("tree/segs")
    assert semivox("import", "tree", "-o", "again")[0] == 0
    for case in ("case_001", "case_002"):
        label, mask = nib.load(f"again/labelsTr/{case}.nii.gz"), nib.load(f"masks/{case}.nii.gz")
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.asarray(mask.dataobj))
        np.testing.assert_allclose(label.affine, mask.affine, atol=1e-5)
    assert json.loads(Path("again/dataset.json").read_text())["segment_codes"]["liver"] == CODES["liver"]


def spoilt(kind: str) -> None:
    """Spoil the masks, or the tree, in one way."""
    mask = nib.load("masks/case_001.nii.gz")
    array, affine = np.asarray(mask.dataobj).copy(), mask.affine.copy()
    if kind == "another grid":
        affine[:3, 3] += 0.3
    elif kind == "another place":
        array, affine[:3, 3] = array, affine[:3, 3] + affine[:3, 0]
    elif kind == "cropped":
        array = array[1:]
    elif kind == "mirrored":
        affine[:3, 0] *= -1
    elif kind == "wrong classes":
        array[0, 0, 0] = 7
    elif kind == "another patient":
        other = nib.load("masks/case_002.nii.gz")
        Path("data/imagesTr/case_001_0000.nii.gz").write_bytes(Path("data/imagesTr/case_002_0000.nii.gz").read_bytes())
        array, affine = np.asarray(other.dataobj), other.affine
    elif kind == "no series":
        Path("masks/case_001.nii.gz").rename("masks/case_009.nii.gz")
        return
    nib.save(nib.Nifti1Image(array, affine), "masks/case_001.nii.gz")


WRONG_MASKS = {
    "another grid": "masks/case_001.nii.gz: found another grid, expected the voxels of its series",
    "another place": "masks/case_001.nii.gz: found 7 x 6 x 5 voxels in another place",
    "cropped": "masks/case_001.nii.gz: found 6 x 6 x 5 voxels in another place",
    "mirrored": "masks/case_001.nii.gz: found 7 x 6 x 5 voxels in another place",
    "wrong classes": "case_001: found the values [7] in its mask, expected 0 and 1 (liver)",
    "another patient": "found another scan, expected that of",
    "no series": "masks/case_009.nii.gz: found no series 'case_009' in tree",
}


@pytest.mark.parametrize("kind", WRONG_MASKS)
def test_a_mask_that_is_not_of_its_series_is_told_in_one_line_and_nothing_is_left(semivox, imported, kind):
    spoilt(kind)
    code, out, err = semivox("export", "--format", "dicom-seg", "run", "masks", "tree", "-o", "there/segs")
    *progress, told = err.splitlines()
    assert (code, out, all(line.startswith("written ") for line in progress)) == (2, "", True), err
    assert WRONG_MASKS[kind] in told
    assert not Path("there").exists()


def test_what_cannot_be_exported_or_predicted_is_told_in_one_line_and_nothing_is_left(semivox, imported, values):
    Path("empty").mkdir()
    for modality in ("CT", "MR"):
        write_series(imported / "mixed" / modality, values, modality=modality)
    write_series(imported / "uneven", values, places=(0, 2, 3, 6, 7.3))
    thresholding.write_run(imported / "two", channels=("CT", "PET"), classes=("background", "liver"))
    for one in write_series(imported / "placeless", values):
        del one.FrameOfReferenceUID
        one.save_as(imported / "placeless" / f"{one.InstanceNumber:03d}.dcm")
    whole = ("export", "--format", "dicom-seg")
    before = sorted(imported.rglob("*"))
    for words, told in (
        ((*whole, "run", "masks"), "takes RUN... MASKS TREE, found 2"),
        ((*whole, "run", "empty", "tree"), "empty: found no mask in it"),
        ((*whole, "run", "masks", "empty"), "empty: found no DICOM file"),
        ((*whole, "data", "masks", "tree"), "data is no run folder"),
        ((*whole, "run", "masks", "mixed"), "expected one modality"),
        ((*whole, "run", "masks", "uneven"), "unevenly spaced slices"),
        (("predict", "run", "mixed", "--trust"), "expected one modality"),
        (("predict", "run", "uneven", "--trust"), "unevenly spaced slices"),
        (("predict", "run", "empty", "--trust"), "there is no scan to predict"),
        (("predict", "two", "tree", "--trust"), "expected 2 (CT, PET), as two takes"),
        (("predict", "run", "placeless", "--trust"), "found no FrameOfReferenceUID"),
        (("predict", "run", "tree", "data/imagesTr", "--trust"), "expected one folder of DICOM alone"),
        (("predict", "run", "tree", "--held-out", "--trust"), "expected one folder of DICOM alone"),
    ):
        code, out, err = semivox(*words, "-o", "there/out")
        assert (code, out, err.count("\n")) == (2, "", 1), (words, err)
        assert told in err, (words, err)
        assert sorted(imported.rglob("*")) == before, words
    code, _, err = semivox("predict", "run", "tree", "-o", "tree/masks", "--trust")
    assert (code, "name a folder outside of it" in err) == (2, True)
    assert sorted(imported.rglob("*")) == before


@pytest.fixture
def hospital(tmp_path) -> list:
    """A tree of four patients, two with a segmentation."""
    drawn = np.random.default_rng(1)
    sources = []
    for number in range(4):
        values = drawn.integers(0, 50, (12, 10, 8)).astype(np.int16)
        label = np.zeros(values.shape, np.uint8)
        label[3:8, 3:7, 2:6] = 1
        values[label > 0] += 200
        made = write_series(tmp_path / f"Doe_Jane/{number}", values, patient=f"HOSP-4711-{number}", modality="MR")
        if number < 2:
            write_segmentation(tmp_path / f"Doe_Jane/{number}", made, label, names=["liver"])
        sources += made
    return sources


def test_run_takes_a_tree_to_segmentations_and_goes_on_with_it(semivox, tmp_path, hospital, monkeypatch):
    monkeypatch.setattr(course, "LEAST", 4)
    words = ("run", "Doe_Jane", "-o", "out", "--budget", "1s", "--device", "cpu")
    code, out, err = semivox(*words)
    assert (code, out) == (0, "out/index.html\n"), err
    unlabelled = sorted(path.name for path in Path("out/masks").glob("*.nii.gz"))
    assert len(unlabelled) == 2
    for name in unlabelled:
        seg = Path("out/masks") / name.replace(".nii.gz", ".seg.dcm")
        assert in_space(seg) == mask_in_space(Path("out/masks") / name) | in_space_of_nothing(seg)
        assert pydicom.dcmread(seg).SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
    assert nothing_of(hospital, Path("out")) == sorted(str(path) for path in Path("out/masks").glob("*.dcm"))
    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.suffix in (".pt", ".gz", ".dcm")}
    assert semivox(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    write_series(tmp_path / "Doe_Jane/new", np.zeros((12, 10, 8), np.int16), patient="p9", modality="MR")
    code, _, err = semivox(*words)
    assert (code, "out/data was made of other series than Doe_Jane holds" in err) == (2, True), err


def in_space_of_nothing(seg: Path) -> dict:
    return {number: set() for number, places in in_space(seg).items() if not places}


def test_a_dry_run_on_a_tree_and_a_refused_one_leave_nothing(semivox, tmp_path, hospital):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = semivox("run", "Doe_Jane", "--dry-run", "-o", "out")
    assert (code, "2 labelled and 2 unlabelled scans" in out) == (0, True), err
    assert sorted(tmp_path.rglob("*")) == before
    for seg in Path("Doe_Jane").rglob("seg_*"):
        seg.unlink()
    before = sorted(tmp_path.rglob("*"))
    code, _, err = semivox("run", "Doe_Jane", "-o", "there/out")
    assert (code, "found 0 scans with and 4 without a label" in err) == (2, True), err
    code, _, err = semivox("run", "Doe_Jane", "-o", "Doe_Jane/out")
    assert (code, "name a folder outside of it" in err) == (2, True), err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="SEMIVOX_DATA names no folder that holds 'dicom'")
def test_three_real_studies_get_segmentations_voxel_for_voxel(semivox, run):
    code, out, err = semivox("predict", "run", str(REAL), "-o", "masks", "--trust")
    assert (code, out) == (0, "4 masks: masks\n"), err
    for mask in Path("masks").glob("*.nii.gz"):
        seg = mask.with_name(mask.name.replace(".nii.gz", ".seg.dcm"))
        image = nib.load(mask)
        label = np.asarray(image.dataobj)
        assert label.any()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values in the studies' headers
            np.testing.assert_array_equal(by_pydicom(seg, image.affine, image.shape), label)
            np.testing.assert_array_equal(by_highdicom(seg, image.affine, image.shape), label)
