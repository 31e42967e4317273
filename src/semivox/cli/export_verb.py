"""The verb that hands runs on to other programs: parses its words, calls one public function, prints what came back."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from semivox.cli.arguments import Output, Trust, Unlabelled, file_argument, file_option
from semivox.errors import ConfigError

Format = Literal["onnx", "torch", "monai", "nnunet", "dicom-seg"]


def export(
    paths: Annotated[
        list[Path],
        file_argument("RUN...", "a run; nnunet: RUN DATA MASKS; dicom-seg: RUN... MASKS TREE"),
    ],
    output: Output,
    format: Annotated[Format, typer.Option("--format", help="a net, a bundle, a data set, or DICOM SEG")] = "onnx",
    review: Annotated[
        Path | None, file_option("--review", help="nnunet: review.json, of which only accepted masks go in")
    ] = None,
    unlabelled: Unlabelled = None,
    trust: Trust = False,
) -> None:
    """Write a run as a program that needs no semivox, labels and masks for nnU-Net, or masks as DICOM SEG."""
    if format == "nnunet":
        _export_dataset(paths, output, review, unlabelled)
        return
    if review is not None or unlabelled is not None:
        raise ConfigError(f"--review and --unlabelled belong to --format nnunet, found --format {format}")
    if format == "dicom-seg":
        _export_segmentations(paths, output)
        return
    from semivox.cli.console import Console
    from semivox.exchange.program import export_run

    with Console() as console:
        print(export_run(paths, output=output, format=format, trust=trust, on_note=console.note))


def _export_dataset(paths: list[Path], output: Path, review: Path | None, unlabelled: Path | None) -> None:
    from semivox.cli.console import Console
    from semivox.exchange.nnunet import export_dataset, told

    if len(paths) != 3:
        raise ConfigError(f"--format nnunet takes RUN DATA MASKS, found {len(paths)}: {', '.join(map(str, paths))}")
    run, data, masks = paths
    with Console() as console:
        exported = export_dataset(
            run,
            data,
            masks,
            output=output,
            review=review,
            unlabelled=unlabelled,
            on_case=lambda case, done, total: console.show("written", done, total, case),
            on_note=console.note,
        )
    print(f"{len(exported.labels)} labels and {len(exported.masks)} masks: {exported.folder}")
    if exported.left_out:
        print(told(exported.left_out))


def _export_segmentations(paths: list[Path], output: Path) -> None:
    from semivox.cli.console import Console
    from semivox.exchange.segmenting import export_segmentations

    if len(paths) < 3:
        found = f"found {len(paths)}: {', '.join(map(str, paths))}"
        raise ConfigError(f"--format dicom-seg takes RUN... MASKS TREE, {found}")
    *runs, masks, tree = paths
    with Console() as console:
        written = export_segmentations(
            runs,
            masks,
            tree,
            output=output,
            on_case=lambda case, done, total: console.show("written", done, total, case),
            on_note=console.note,
        )
    print(f"{len(written)} DICOM segmentations: {output}")
