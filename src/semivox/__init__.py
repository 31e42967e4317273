"""semivox: semi-supervised segmentation of medical scans, from a few labels to masks and honest scores."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Predictor": "prediction.predictor",
    "add_labels": "selection.corrected",
    "advise": "advice.advise",
    "apply_review": "selection.reviewed",
    "bench": "benchmarking.bench",
    "check_dataset": "data.checking",
    "cross_validate": "benchmarking.cross_validation",
    "curve": "benchmarking.curve",
    "demo": "benchmarking.demonstration",
    "estimate_quality": "quality.estimate",
    "evaluate_masks": "scoring.evaluation",
    "export_dataset": "exchange.nnunet",
    "export_run": "exchange.program",
    "export_segmentations": "exchange.segmenting",
    "fingerprint": "planning.plan",
    "import_dicom": "exchange.importing",
    "list_methods": "methods",
    "make_plan": "planning.plan",
    "make_split": "data.splitting",
    "next_scans": "selection.worklist",
    "plan_dataset": "planning.plan",
    "predict": "prediction.files",
    "predict_dicom": "exchange.segmenting",
    "prepare": "training.start",
    "read_dataset": "data.dataset",
    "read_image": "data.volume",
    "read_split": "data.splitting",
    "run": "workflow.run",
    "train": "training.start",
    "write_mask": "data.volume",
    "write_phantom": "data.phantom",
    "write_report": "reporting.report",
    "write_split": "data.splitting",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that ``import semivox`` loads no torch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'semivox' has no attribute '{name}'")
    return getattr(import_module(f"semivox.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
