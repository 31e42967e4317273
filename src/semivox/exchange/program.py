"""A trained run as a program for others: its net, its preparation as data, and a script that makes the same masks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from semivox.errors import ConfigError
from semivox.exchange.bundle import copy_templates, write_bundle, write_json
from semivox.exchange.network import WindowNet, refuse_without_onnx, traced, write_onnx, write_torch
from semivox.exchange.opening import finished_run
from semivox.exchange.preparation import preparation_of
from semivox.files import listed, refuse_used_folder, whole_folder
from semivox.prediction.predictor import Predictor

Format = Literal["onnx", "torch", "monai"]


def export_run(
    run: Path | str | Sequence[Path | str],
    *,
    output: Path | str,
    format: Format = "onnx",
    trust: bool = False,
    on_note: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write what predicts in a run as a program that needs no semivox, and return its folder.

    Args:
        run: a run folder.
        output: a folder that is not there, or empty.
        format: "onnx" is net.onnx, "torch" is net.pt2, either with preparation.json and predict.py, the script;
            "monai" is a bundle of MONAI.
        trust: run the run's own copy of a method that semivox does not ship.
        on_note: called with a sentence on what the program does otherwise than the run.

    Raises:
        RunError: there is no run, it is not at its end, or its net cannot be written; or `output` is used already.
        ConfigError: several runs, or no such format.
        DatasetError: the run is one of pictures.
        MissingExtraError: the extra `export` is not installed.
    """
    output = Path(output)
    refuse_used_folder(output)
    if format not in FILES:
        raise ConfigError(f"format = '{format}': expected one of {', '.join(FILES)}")
    if format == "onnx":
        refuse_without_onnx()
    predictor = Predictor(finished_run(listed(run)).path, device="cpu", trust=trust)
    if predictor.recipe.boxes:
        on_note("scans that prepare.boxes names are cropped to what is not zero, as any other: boxes are not exported")
    net, plan = WindowNet(predictor), preparation_of(predictor.run)
    with whole_folder(output) as folder:
        FILES[format](folder, net, plan)
    return output


def _write_onnx(folder: Path, net: WindowNet, plan: dict[str, Any]) -> None:
    write_onnx(traced(net), net, folder / "net.onnx")
    _write_script(folder, plan)


def _write_torch(folder: Path, net: WindowNet, plan: dict[str, Any]) -> None:
    write_torch(traced(net), net, folder / "net.pt2")
    _write_script(folder, plan)


def _write_script(folder: Path, plan: dict[str, Any]) -> None:
    write_json(plan, folder / "preparation.json")
    copy_templates(folder, "predict.py", "preparation.py")


FILES: dict[str, Callable[[Path, WindowNet, dict[str, Any]], None]] = {
    "onnx": _write_onnx, "torch": _write_torch, "monai": write_bundle,
}  # fmt: skip
"""What writes each format."""
