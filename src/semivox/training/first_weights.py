"""First weights: a run may begin from the nets of another one, of which it keeps a copy and says where they are from.

Nets go by their names in a method: ``student``, ``teacher``, ``net_1``, ``net_2``. One that the other run has, too, is
its copy; a teacher that it lacks is that of its student; a second net that it lacks begins anew, since two equal nets
teach each other nothing. Heads, critics, banks and optimisers begin anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semivox.config.keys import Config
from semivox.config.toml import flatten
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, read_split
from semivox.errors import RunError
from semivox.files import file_digest, write_atomic
from semivox.nets.segmentation_models import WEIGHTS_FILE
from semivox.runs.checkpoint import load_method, steps_taken
from semivox.runs.facts import trained_on
from semivox.runs.folder import RunFolder, open_run, read_checkpoint

FILE = "start.pt"
"""In a run folder: the nets that the run began from."""
SHAPING = ("dims", "slice_axis", "net")
"""Keys of a config that decide what weights there are; those of `net` that do not are left out by `_net`."""
GRID = ("spacing", "resize", "patch")
"""Keys that say what a net is used to see."""
SOURCES = {
    "student": ("student", "net_1"),
    "net_1": ("net_1", "student"),
    "net_2": ("net_2",),
    "teacher": ("teacher", "student", "net_1"),
    "teacher_1": ("teacher_1", "teacher", "student", "net_1"),
    "teacher_2": ("teacher_2", "teacher", "student", "net_1"),
}
"""Which net of the other run a net begins from: the first of these that it has."""


@dataclass(frozen=True)
class FirstWeights:
    """The nets that a run begins from.

    Attributes:
        path: the run that trained them, or the file that has them, for messages.
        nets: tensors by their names in that run's method, such as "student.encoder.0.weight".
        facts: what run.json says of them; empty where it says so already.
        values: the config of the run that trained them, as far as the net and what it sees go.
    """

    path: Path
    nets: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    values: Mapping[str, Any]


def first_weights(path: Path, lists: Split) -> FirstWeights:
    """Return the nets of a run, for another one on these lists; nothing of its method is run.

    Raises:
        RunError: no run, no or a damaged checkpoint, no net in it; or it has learned from labels of cases, or patients,
            that the lists hold out.
    """
    run = open_run(path)
    checkpoint = run.latest()
    if checkpoint is None:
        raise RunError(f"{path} has no checkpoint yet: train it with --resume until the first one is written")
    own = read_split(run.split_file)
    seen = trained_on(run.facts, labelled=own.labelled, unlabelled=own.unlabelled)
    _refuse_seen(run, seen, lists)
    state = read_checkpoint(checkpoint)
    step, steps = steps_taken(state, checkpoint)
    labelled = {patient_of(case, own.patients, unknown=case) for case in own.labelled}
    facts = {
        "run": str(path.resolve()),
        "method": run.facts["method"],
        "labelled": len(labelled),
        "weights": file_digest(checkpoint),
        "step": step,
        "steps": steps,
        "channels": run.facts["channels"],
        "classes": run.facts["classes"],
        "trained_on": seen,
    }
    config = run.config.model_dump(mode="json")
    values = {key: config[key] for key in (*SHAPING, *GRID) if config[key] is not None}
    values["net"] = {key: value for key, value in values["net"].items() if value is not None}
    return FirstWeights(path, _nets(state, checkpoint), facts, values)


def kept_weights(run: RunFolder) -> FirstWeights | None:
    """Return the nets that a run began from, of which it keeps a copy; None where it began anew.

    Raises:
        RunError: the copy is missing, or not what the run began from.
    """
    facts, file = run.facts.get("start"), run.path / FILE
    if not isinstance(facts, Mapping):
        return None
    found = file_digest(file) if file.is_file() else "no file"
    if found != facts.get("kept"):
        raise RunError(
            f"{file}: found {found}, expected the weights that the run began from (SHA-256 {facts.get('kept')}): "
            "restore it, or start a new run with another -o"
        )
    return FirstWeights(file, _nets(read_checkpoint(file), file), {}, {})


def keep_weights(first: FirstWeights, folder: Path) -> dict[str, Any]:
    """Write the nets into a run folder, and return what run.json says of them.

    Raises:
        RunError: the folder cannot be written.
    """
    write_atomic(folder / FILE, lambda file: torch.save({"method": dict(first.nets)}, file))
    return {**first.facts, "kept": file_digest(folder / FILE)}


def refuse_another_start(run: RunFolder, asked: Path | None) -> None:
    """Refuse to go on with a run from other first weights than it had; without a word it goes on from its own.

    Raises:
        RunError: another run is asked for than it began from.
    """
    facts = run.facts.get("start") or {}
    if asked is not None and str(asked.resolve()) != facts.get("run"):
        raise RunError(
            f"{run.path} was started from {facts.get('run', 'no other run')}, found --start {asked}: leave --start out "
            "to go on, or start a new run with another -o"
        )


def refuse_another_net(config: Config, facts: Mapping[str, Any], first: FirstWeights) -> None:
    """Refuse weights of another net than a config describes.

    Args:
        config: of the run that begins.
        facts: its ``channels`` and ``classes``.
        first: the weights.

    Raises:
        RunError: what the two differ in.
    """
    theirs = _net(first.values) | {key: first.facts[key] for key in ("channels", "classes")}
    mine = _net(config.model_dump(mode="json")) | {key: list(facts[key]) for key in ("channels", "classes")}
    other = [key for key in mine if mine[key] != theirs.get(key)]
    if other:
        key = other[0]
        advice = f"set {key} as it has it" if key not in facts else "start from a run on such data"
        raise RunError(
            f"{first.path} has {key} = {theirs.get(key)}, found {mine[key]} here: a run begins from weights of the "
            f"same net; {advice}, or leave --start out"
        )


def give_weights(method: nn.Module, first: FirstWeights) -> str:
    """Give a method's nets the weights that they begin from, and return in words which have which.

    Raises:
        RunError: none of its nets has a counterpart, or they have other weights.
    """
    state, told, anew = method.state_dict(), [], []
    names = {name.partition(".")[0] for name in first.nets}
    for net in dict.fromkeys(name.partition(".")[0] for name in state):
        source = next((name for name in SOURCES.get(net, ()) if name in names), None)
        if source is None:
            anew.append(net)
            continue
        found = {f"{net}.{name}": tensor for name, tensor in _below(source, first.nets).items()}
        _refuse_other_names({name for name in state if name.startswith(f"{net}.")}, found, net, source, first.path)
        state |= found
        told.append(net if net == source else f"{net} from its {source}")
    if not told:
        raise RunError(
            f"{first.path} has the nets {', '.join(sorted(names)) or 'none'}, the method here has {', '.join(anew)}: "
            "found none that begins from another; leave --start out"
        )
    load_method(method, {"method": state}, first.path)
    rest = f"; {' and '.join(anew)} anew" if anew else ""
    return f"{' and '.join(told)} {'begins' if len(told) == 1 else 'begin'} from {first.path}{rest}"


def _below(name: str, nets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.partition(".")[2]: tensor for key, tensor in nets.items() if key.partition(".")[0] == name}


def _refuse_other_names(mine: set[str], found: Iterable[str], net: str, source: str, path: Path) -> None:
    """Refuse a net that has other weights, such as those of further decoders."""
    for name in sorted(mine ^ {*found}):
        whose = f"here, not in its {source}" if name in mine else f"in its {source}, not here"
        raise RunError(
            f"{path}: '{name}' is {whose}: {net} is another net, as methods with more decoders have; start from a run "
            "of the same method, or leave --start out"
        )


def _nets(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that belong to a net."""
    found = state.get("method")
    tensors = found if isinstance(found, Mapping) else {}
    nets = {
        str(name): tensor
        for name, tensor in tensors.items()
        if str(name).partition(".")[0] in SOURCES and torch.is_tensor(tensor)
    }
    if not nets:
        raise RunError(f"{path}: found no weights of a net named {', '.join(SOURCES)}: start from another run")
    return nets


def _net(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a config that decide about the weights of its net."""
    found = flatten({key: values[key] for key in SHAPING if key in values})
    skipped = ("net.dropout", f"net.options.{WEIGHTS_FILE}")
    return {key: value for key, value in found.items() if key not in skipped and value is not None}


def _refuse_seen(run: RunFolder, seen: Mapping[str, Mapping[str, str]], lists: Split) -> None:
    """Refuse a run that learned from labels of what is held out here: by image where both know it, else by name."""
    known = seen["labelled"]
    hashes = {found for found in known.values() if found}
    patients = {patient_of(case, lists.patients, unknown=case) for case in known} if lists.patients else set()
    found = [
        case
        for case in lists.held_out
        if lists.hashes.get(case) in hashes
        or (case in known and not (known[case] and case in lists.hashes))
        or (lists.patients and patient_of(case, lists.patients, unknown=case) in patients)
    ]
    if found:
        named = ", ".join(found[:5]) + ", ..." * (len(found) > 5)
        raise RunError(
            f"{run.path} was trained on the labels of {len(found)} of the {len(lists.held_out)} cases that this split "
            f"holds out ({named}), or of their patients: scores on them would say nothing; start from a run that did "
            "not see them, or keep the run's own held-out cases"
        )
