"""A MONAI bundle of a run: the net, its preparation, and the config that ``python -m monai.bundle run`` follows."""

import json
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import semivox
from semivox.exchange.network import WindowNet, traced, write_torch

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
TRIED = {"pytorch-ignite": "0.5.5", "fire": "0.7.1"}
"""Versions of what a bundle needs and semivox does not, with which a bundle was run."""
TEMPLATES = resources.files("semivox.exchange").joinpath("templates")


def write_bundle(folder: Path, net: WindowNet, plan: dict[str, Any]) -> None:
    """Write a bundle's configs, models, scripts and docs.

    Args:
        folder: of the bundle; it is there.
        net: of the run.
        plan: see `semivox.exchange.preparation.preparation_of`.

    Raises:
        RunError: the net cannot be traced or written.
    """
    for part in ("configs", "models", "scripts", "docs"):
        (folder / part).mkdir()
    write_torch(traced(net), net, folder / "models/net.pt2")
    write_json(plan, folder / "configs/preparation.json")
    write_json(_metadata(plan), folder / "configs/metadata.json")
    copy_templates(folder / "configs", "inference.json")
    (folder / "scripts/__init__.py").write_text('"""What the configs are made of."""\n', encoding="utf-8")
    copy_templates(folder / "scripts", "inference.py", "preparation.py")
    (folder / "docs/README.md").write_text(README, encoding="utf-8")


def copy_templates(folder: Path, *names: str) -> None:
    """Write files that are shipped with semivox into a folder, as they are."""
    for name in names:
        (folder / name).write_bytes(TEMPLATES.joinpath(name).read_bytes())


def write_json(values: Any, path: Path) -> None:
    """Write values as JSON."""
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


README = """\
# A segmentation net, trained with semivox

    pip install "monai[fire,ignite,nibabel]" scipy
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS --output_dir MASKS

from this folder. SCANS holds NIfTI files, one a scan, or CASE_0000.nii.gz, CASE_0001.nii.gz ... with a channel each;
channels and classes are in configs/metadata.json. Research software, and no medical device.
"""


def _metadata(plan: dict[str, Any]) -> dict[str, Any]:
    """Return what a bundle says of itself by MONAI's schema."""
    shared = {"spatial_shape": plan["patch"], "dtype": "float32", "is_patch_data": True}
    image = shared | {
        "type": "image", "format": "magnitude", "modality": ", ".join(plan["channels"]),
        "num_channels": len(plan["channels"]), "value_range": [], "channel_def": _numbered(plan["channels"]),
    }  # fmt: skip
    pred = shared | {
        "type": "image", "format": "segmentation", "num_channels": len(plan["classes"]), "value_range": [0, 1],
        "channel_def": _numbered(plan["classes"]),
    }  # fmt: skip
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "exported from semivox"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("nibabel", "scipy")} | TRIED,
        "name": "segmentation",
        "task": f"segmentation of {', '.join(plan['classes'][1:])}",
        "description": f"a net trained with semivox {semivox.__version__}, with its preparation",
        "authors": "whoever trained it",
        "copyright": "as whoever trained it says",
        "intended_use": "research; no medical device",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }


def _numbered(names: list[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}
