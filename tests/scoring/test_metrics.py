"""Metrics against hand cases and two outside judges, medpy and MONAI, with anisotropic spacing and awkward masks."""

import subprocess
import sys

import medpy.metric.binary as medpy
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from semivox.scoring.metrics import (
    SurfaceDistances,
    asd,
    assd,
    class_ious,
    confusion_matrix,
    diagonal,
    dice,
    hd95,
    jaccard,
    nsd,
    score_masks,
    surface_distances,
)

SPACING = (5.0, 1.25, 1.25)
SHAPE = (9, 24, 20)


def blob(seed: int, *, shift: tuple[int, ...] = (0, 0, 0), share: float = 0.1) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), (1, 2, 2))
    return np.roll(noise > np.quantile(noise, 1 - share), shift, (0, 1, 2))


def mask_of(*voxels: tuple[int, ...], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def ball(shape: tuple[int, ...], centre: tuple[int, ...], radius: float) -> np.ndarray:
    offsets = np.indices(shape) - np.reshape(centre, (-1, *[1] * len(shape)))
    return (offsets**2).sum(0) <= radius**2


PAIRS = {
    "shifted": (blob(1, shift=(1, 2, -1)), blob(1)),  # rolled blobs touch the border on every side
    "other": (blob(2), blob(3, share=0.3)),
    "nested": (ball(SHAPE, (4, 12, 10), 3), ball(SHAPE, (4, 12, 10), 8)),  # the larger one is cut by the border
    "hollow": (ball(SHAPE, (4, 12, 10), 8) ^ ball(SHAPE, (4, 12, 10), 5), ball(SHAPE, (4, 12, 10), 7)),
    "full": (np.ones(SHAPE, dtype=bool), blob(4)),
    "far one-voxel": (mask_of((0, 0, 0)), mask_of((8, 23, 19))),
    "one voxel in a blob": (mask_of((4, 12, 10)), blob(5)),
    "equal": (blob(6), blob(6)),
    "integers": (blob(7).astype(np.uint8) * 3, blob(8).astype(np.int16)),
}


@pytest.fixture(params=PAIRS, name="pair")
def _pair(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    return PAIRS[request.param]


def test_scores_equal_those_of_medpy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    scores = score_masks(*pair, SPACING)

    found = (scores.dice, scores.jaccard, scores.hd95, scores.asd, scores.assd)
    judged = (
        medpy.dc(*pair),
        medpy.jc(*pair),
        medpy.hd95(*pair, SPACING),
        medpy.asd(*pair, SPACING),
        medpy.assd(*pair, SPACING),
    )
    assert found == pytest.approx(judged, rel=1e-9, abs=1e-12)


# MONAI 1.6 calls its own deprecated option
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("tolerance", [0.0, 1.25, 2.0, 5.0])
def test_nsd_assd_and_larger_hd95_equal_those_of_monai(pair: tuple[np.ndarray, np.ndarray], tolerance: float) -> None:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    scores = score_masks(*pair, SPACING, tolerance=tolerance, hd95="max")

    prediction, truth = (torch.from_numpy(mask != 0)[None, None].float() for mask in pair)
    options = {"include_background": True, "spacing": SPACING}
    judged_nsd = compute_surface_dice(prediction, truth, [tolerance], **options).item()
    judged_assd = compute_average_surface_distance(prediction, truth, symmetric=True, **options).item()
    judged_hd95 = compute_hausdorff_distance(prediction, truth, percentile=95, directed=False, **options).item()
    assert scores.nsd == pytest.approx(judged_nsd, rel=1e-6)
    assert (scores.hd95, scores.assd) == pytest.approx((judged_hd95, judged_assd), rel=1e-6)


def test_two_definitions_of_hd95_differ_and_the_larger_is_never_the_pooled_one() -> None:
    distances = surface_distances(*PAIRS["nested"], SPACING)

    assert hd95(distances, "max") > hd95(distances)
    assert score_masks(*PAIRS["nested"], SPACING).hd95 == hd95(distances, "pooled")


def test_two_voxels_apart_by_hand() -> None:
    prediction, truth = mask_of((1, 3, 3)), mask_of((2, 3, 3), (2, 3, 7))

    distances = surface_distances(prediction, truth, SPACING)

    assert distances.to_truth.tolist() == [5.0]
    assert distances.to_prediction.tolist() == [5.0, 50**0.5]
    assert asd(distances) == 5.0
    assert assd(distances) == pytest.approx((5 + 5 + 50**0.5) / 3)
    assert hd95(distances) == pytest.approx(5 + 0.9 * (50**0.5 - 5))  # rank 1.9 of 5, 5, 7.07
    assert hd95(distances, "max") == pytest.approx(5 + 0.95 * (50**0.5 - 5))
    assert nsd(distances, tolerance=5) == pytest.approx(2 / 3)
    assert nsd(distances, tolerance=4.9) == 0


def test_overlaps_by_hand() -> None:
    prediction, truth = np.array([[1, 1, 0, 0]]), np.array([[0, 2, 2, 2]])

    assert dice(prediction, truth) == 2 / 5
    assert jaccard(prediction, truth) == 1 / 4
    scores = score_masks(prediction, truth, (1, 1))
    assert (scores.dice, scores.jaccard, scores.truth_voxels, scores.predicted_voxels) == (2 / 5, 1 / 4, 3, 2)


def test_asd_is_one_way_and_the_rest_is_symmetric() -> None:
    prediction, truth = PAIRS["nested"]

    there, back = score_masks(prediction, truth, SPACING), score_masks(truth, prediction, SPACING)

    assert there.asd != back.asd
    assert (there.dice, there.jaccard, there.nsd) == (back.dice, back.jaccard, back.nsd)
    assert (there.hd95, there.assd) == pytest.approx((back.hd95, back.assd))


def test_a_tolerance_counts_distances_equal_to_it_whatever_their_rounding() -> None:
    prediction, truth = mask_of((0, 0, 0)), mask_of((0, 3, 0))

    assert 3 * 0.1 > 0.3  # what the distance is in floating point
    assert score_masks(prediction, truth, (1, 0.1, 0.1), tolerance=0.3).nsd == 1


def test_scores_scale_with_the_spacing_and_ignore_the_empty_rest_of_the_image() -> None:
    prediction, truth = PAIRS["hollow"]
    padded = [np.pad(mask[1:-1, 1:-1, 1:-1], 5) for mask in (prediction, truth)]
    inner = [np.pad(mask[1:-1, 1:-1, 1:-1], 1) for mask in (prediction, truth)]

    small, large = score_masks(*inner, (1, 1, 1), tolerance=1), score_masks(*padded, (3, 3, 3), tolerance=3)

    assert (large.dice, large.nsd) == (small.dice, small.nsd)
    assert (large.hd95, large.asd, large.assd) == pytest.approx((3 * small.hd95, 3 * small.asd, 3 * small.assd))


@pytest.mark.parametrize("swap", [False, True])
def test_one_empty_mask_is_a_failure_with_the_diagonal_as_distance(swap: bool) -> None:
    pair = mask_of(), blob(1)

    scores = score_masks(*(reversed(pair) if swap else pair), SPACING)

    worst = (45**2 + 30**2 + 25**2) ** 0.5
    assert (scores.dice, scores.jaccard, scores.nsd) == (0, 0, 0)
    assert (scores.hd95, scores.asd, scores.assd) == pytest.approx((worst, worst, worst))
    assert diagonal(SHAPE, SPACING) == pytest.approx(worst)
    assert (scores.failure, scores.both_empty) == (True, False)
    assert 0 in (scores.truth_voxels, scores.predicted_voxels)


def test_two_empty_masks_have_no_score_and_are_no_failure() -> None:
    scores = score_masks(mask_of(), mask_of(), SPACING)

    numbers = (scores.dice, scores.jaccard, scores.hd95, scores.asd, scores.assd, scores.nsd)
    assert np.isnan(numbers).all()
    assert (scores.failure, scores.both_empty) == (False, True)


@pytest.mark.parametrize("pair", [(mask_of(), mask_of()), (mask_of(), blob(1)), (blob(1), mask_of())])
def test_distances_to_an_empty_mask_are_undefined(pair: tuple[np.ndarray, np.ndarray]) -> None:
    distances = surface_distances(*pair, SPACING)

    assert isinstance(distances, SurfaceDistances)
    numbers = (hd95(distances), hd95(distances, "max"), asd(distances), assd(distances), nsd(distances, tolerance=1))
    assert np.isnan(numbers).all()
    assert np.isnan([dice(mask_of(), mask_of()), jaccard(mask_of(), mask_of())]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.ones((9, 24, 21))}, r"\(9, 24, 20\).*\(9, 24, 21\)"),
        ({"spacing": (1, 1)}, "expected 3 positive numbers"),
        ({"spacing": (1, 0, 1)}, "expected 3 positive numbers"),
        ({"tolerance": -1}, "found tolerance -1"),
        ({"tolerance": float("nan")}, "found tolerance nan"),
        ({"hd95": "mean"}, "'mean', expected one of pooled, max"),
    ],
)
def test_what_cannot_be_scored_is_refused(change: dict, message: str) -> None:
    arguments = {"prediction": blob(1), "truth": blob(2), "spacing": SPACING} | change

    with pytest.raises(ValueError, match=message):
        score_masks(**arguments)


def test_the_module_loads_neither_torch_nor_file_readers() -> None:
    code = "import sys, semivox.scoring.metrics; print({'torch', 'monai', 'nibabel', 'SimpleITK'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_confusion_matrices_of_images_add_up_to_that_of_all_their_pixels():
    truth, prediction = np.random.default_rng(0).integers(0, 4, (2, 3, 50))
    one_by_one = sum(confusion_matrix(p, t, 4) for p, t in zip(prediction, truth, strict=True))
    together = confusion_matrix(prediction, truth, 4)
    assert np.array_equal(one_by_one, together)
    assert together.sum() == 150
    assert together[1, 3] == ((truth == 1) & (prediction == 3)).sum()
    assert np.array_equal(confusion_matrix(None, truth, 4).sum(0), [0, 0, 0, 0, 150])


def test_the_iou_of_a_class_is_the_jaccard_of_its_masks_and_undefined_where_both_lack_it():
    truth, prediction = np.random.default_rng(1).integers(0, 4, (2, 200))
    ious = class_ious(confusion_matrix(prediction, truth, 5))
    assert ious[:4] == pytest.approx([jaccard(prediction == k, truth == k) for k in range(4)])
    assert np.isnan(ious[4])
