"""The one finished run that is exported, or one clear line why it is not."""

from collections.abc import Sequence
from pathlib import Path

from semivox.errors import ConfigError, DatasetError, RunError
from semivox.runs.checkpoint import steps_taken
from semivox.runs.folder import RunFolder, open_run, read_checkpoint
from semivox.runs.folds import each_run


def finished_run(runs: Sequence[Path]) -> RunFolder:
    """Return the run that is named.

    Raises:
        RunError: there is no run, or it is not at its end.
        ConfigError: several runs.
        DatasetError: the run is one of pictures.
    """
    paths = each_run(runs)
    if len(paths) != 1:
        raise ConfigError(
            f"found {len(paths)} runs ({', '.join(map(str, paths[:3]))}{', ...' * (len(paths) > 3)}), expected one: "
            "name one of them, each into a folder of its own"
        )
    run = open_run(paths[0])
    if run.facts.get("pictures"):
        raise DatasetError(f"{run.path} was trained on pictures, expected scans: what is exported is NIfTI's")
    checkpoint = run.latest()
    if checkpoint is None:
        raise RunError(f"{run.path} has no checkpoint yet: go on with `semivox train` and --resume")
    step, steps = steps_taken(read_checkpoint(checkpoint), checkpoint)
    if step < steps:
        raise RunError(
            f"{run.path} is not at its end: found the weights of {step} of {steps} steps; go on with `semivox train` "
            "and --resume"
        )
    return run
