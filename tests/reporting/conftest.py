"""Scores of toy runs, for the tests of tables and headlines."""

import csv
import json

import numpy as np
import pytest


@pytest.fixture
def scored(tmp_path):
    """Write a scores.csv with its scores.json: Dice (and distances, if asked for) of ten cases, shifted."""

    def write(group, shift, *, seed=0, split="s", cases=10, method=None, spread=0.0, level=0.6, further=None, **info):
        folder = tmp_path / f"{group}_{seed}_{split}"
        folder.mkdir()
        values = np.linspace(level, level + 0.2, cases) + shift + spread * np.resize([1, -1], cases)
        columns = {"dice": values} | {name: np.linspace(5, 6, cases) + by for name, by in (further or {}).items()}
        with (folder / "scores.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "label", "name", *columns, "failure"])
            rows = enumerate(zip(*columns.values(), strict=True))
            writer.writerows([f"case_{n}", 1, "atrium", *row, 0] for n, row in rows)
        prediction = {"group": group, "method": method or group, "seed": seed, "split": split}
        (folder / "scores.json").write_text(json.dumps({"prediction": prediction | info.pop("prediction", {})} | info))
        return folder / "scores.csv"

    return write


@pytest.fixture
def thrice(scored):
    """Write the scores of three seeds."""
    return lambda group, shift, **values: [scored(group, shift, seed=seed, **values) for seed in range(3)]
