"""The verbs for DICOM: each parses its words, calls one public function and prints what came back."""

from pathlib import Path
from typing import Annotated

import typer

from semivox.cli.arguments import Output, file_argument

Tree = Annotated[Path, file_argument("TREE", "folder of DICOM files, in subfolders or not")]


def import_(
    tree: Tree,
    output: Output,
    keep_identifiers: Annotated[
        bool, typer.Option("--keep-identifiers", help="write the SeriesInstanceUID of each case to identifiers.csv")
    ] = False,
) -> None:
    """Make a data set of DICOM series, with labels where there are DICOM segmentations."""
    from semivox.cli.console import Console
    from semivox.exchange.importing import import_dicom

    with Console() as console:
        made = import_dicom(
            tree,
            output=output,
            keep_identifiers=keep_identifiers,
            on_case=lambda case, done, total: console.show("importing", done + 1, total, case),
        )
    print(f"{len(made.labelled)} labelled, {len(made.cases) - len(made.labelled)} unlabelled: {made.folder}")
    for note in made.notes:
        print(note)
