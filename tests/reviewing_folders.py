"""Folders with a review page, made of toy scans whose labels stand for masks; and what a person said of masks."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semivox.data.dataset import read_dataset
from semivox.files import file_digest
from semivox.reviewing.page import write_page
from semivox.scoring.pairing import list_masks


def write_review_folder(data: Path, output: Path, *, title: str = "toy", flagged: Sequence[str] = ()) -> Path:
    """Write masks and a page for every labelled case of a data folder, the first one the likely worst."""
    dataset = read_dataset(data)
    (output / "masks").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(dataset.labelled):
        label = dataset.case(name).label
        shutil.copy(label, output / "masks" / label.name)
        for value, kind in list(zip(dataset.label_values, dataset.classes, strict=True))[1:]:
            estimate = 0.3 + 0.6 * number / len(dataset.labelled)
            rows.append({
                "case": name, "label": value, "name": kind, "dice_estimated": float("nan") if number == 1 else estimate,
                "dice_lower": estimate - 0.1 if number == 0 else float("nan"), "coverage": 0.8,
                "flags": "many components; touches the border" if name in flagged else "",
            })  # fmt: skip
    scans = {name: dataset.case(name).images for name in dataset.labelled}
    return write_page(
        rows, scans, output / "masks", output / "index.html", title=title, summary="made of toys",
        channels=dataset.channels, ct=[name == "CT" for name in dataset.channels],
    )  # fmt: skip


def write_review(file: Path, masks: Path, said: Mapping[str, str]) -> Path:
    """Write a review.json, with a choice by case, of a folder of masks."""
    found = list_masks(masks)
    cases = {
        case: {"choice": choice, "note": "seen", "mask": file_digest(found[case]), "time": "2026-01-31T12:00:00.000Z"}
        for case, choice in said.items()
    }
    file.write_text(json.dumps({"version": 1, "name": "toy", "reviewer": "A. B.", "cases": cases}))
    return file
