"""What two runs differ in besides seed and method: where it is anything, they are not compared, and never pooled."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from semivox.config.toml import flatten
from semivox.errors import DatasetError
from semivox.scoring.scores import Group, Scores

OWN = ("label", "seed", "method", "stages", "steps", "batch_unlabelled", "log_every", "checkpoint_every", "determinism",
       "equal_time")  # fmt: skip
"""Keys of a config that name a run, are its method's own, or change no result; the steps taken are told apart."""
HD95 = "definition of HD95"
"""What scores.json calls hd95: it moves that score alone, so that only there it is a difference of two groups."""
FEW = 4
"""Differences that are named one by one."""


def differences(first: Scores, second: Scores, *, methods: bool = False) -> dict[str, tuple[str, str]]:
    """Return what two runs are known to differ in, {what: (the first's, the second's)}; what is unknown is left out.

    With `methods`, the methods' own fields and how HD95 was defined are looked at, too: what runs of one name share.
    Two draws of as many labelled cases differ by chance, as two seeds do: that is no difference.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for mine, theirs in zip(_facts(first, methods=methods), _facts(second, methods=methods), strict=True):
        if mine and theirs:
            found |= {key: (mine.get(key), theirs.get(key)) for key in [*mine, *(theirs.keys() - mine.keys())]}
    if "labelled" in found and "draw" in found and first.labelled == second.labelled and first.draw != second.draw:
        del found["draw"]
        found.pop("split", None)
    return {key: (_text(a), _text(b)) for key, (a, b) in found.items() if a != b}


def group_differences(first: Group, second: Group) -> dict[str, tuple[str, str]]:
    """Return what any run of one group and any of the other are known to differ in, as `differences` does.

    One pair of runs does not tell: what one run does not say, the next may.
    """
    found: dict[str, tuple[str, str]] = {}
    for mine, theirs in product(first.runs, second.runs):
        found = differences(mine, theirs) | found
    return found


def confounders(first: Group, second: Group, metric: str = "") -> tuple[str, ...]:
    """Return why the difference between two groups is not that of their methods, in words; empty where it is.

    The definition of HD95 counts where that is the `metric`.

    A group of the same method under a name of its own (more labels, another recipe) was made to differ in something:
    that is what is compared then. A run that has not come to its end is compared with nothing.
    """
    unfinished = tuple(f"{g.name} is not at its end" for g in (first, second) if not g.finished)
    found = hd95_definitions(first, second) if metric.startswith("hd95") else {}
    if first.method != second.method or first.label == second.label:
        found |= group_differences(first, second)
    return unfinished + words(found)


def hd95_definitions(first: Group, second: Group) -> dict[str, tuple[str, str]]:
    """Return {what: (the first's, the second's)} of HD95 where two definitions of it are known; else nothing."""
    mine, theirs = (sorted({found for run in group.runs for found in _hd95(run).values()}) for group in (first, second))
    return {HD95: (" and ".join(mine), " and ".join(theirs))} if mine and theirs and mine != theirs else {}


def words(found: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Return differences in words, the first few by name."""
    named = [f"{key} {a} against {b}" for key, (a, b) in found.items()]
    return (*named[:FEW], f"{len(named) - FEW} more keys") if len(named) > FEW else tuple(named)


def pooled(runs: Sequence[Scores], patients: str | None) -> list[Group]:
    """Return runs of one name as groups of runs that differ in nothing but their seed, or their draw and seed.

    Where they differ in more, each group's name says in what.
    """
    kinds: list[list[Scores]] = []
    for run in runs:
        like = (kind for kind in kinds if not any(differences(run, one, methods=True) for one in kind))
        kind = next(like, None)
        kinds.append([run]) if kind is None else kind.append(run)
    names = [_name(kind, [run for other in kinds if other is not kind for run in other]) for kind in kinds]
    twice = [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]
    return [Group(name, tuple(kind), patients) for name, kind in zip(twice, kinds, strict=True)]


def group_scores(scores: Sequence[Scores]) -> list[Group]:
    """Return the groups in order of their first appearance; the same file given twice counts once.

    Raises:
        DatasetError: there are no scores.
    """
    if not scores:
        raise DatasetError("no scores were given; expected at least one scores.csv written by 'semivox evaluate'")
    named: dict[str, list[Scores]] = {}
    for one in {one.path.resolve(): one for one in scores}.values():
        named.setdefault(one.group, []).append(one)
    known = {one.patients for one in scores} - {None}
    patients = known.pop() if len(known) == 1 else None  # runs that disagree on it have the case in common
    by_seed = [sorted(runs, key=lambda run: (run.seed is None, run.seed or 0)) for runs in named.values()]
    return [group for runs in by_seed for group in pooled(runs, patients)]


def is_known(run: Scores) -> bool:
    """Return whether the scores say of which split, steps and config their run was."""
    return all(_facts(run, methods=False)[:3])


def _name(runs: Sequence[Scores], others: Sequence[Scores]) -> str:
    """Return the name of a group, with what sets it apart from others of that name."""
    pairs = [differences(run, other, methods=True) for run, other in product(runs, others)]
    found = {key: mine for pair in pairs for key, (mine, _) in pair.items()}
    named = [f"{key} {value}" for key, value in found.items()]
    more = [f"{len(named) - FEW} more keys"] if len(named) > FEW else []
    return f"{runs[0].group} ({', '.join(named[:FEW] + more)})" if found else runs[0].group


def _facts(run: Scores, *, methods: bool) -> tuple[dict[str, Any], ...]:
    """Return what is known of a run: its split, steps, config, how it predicted and was scored; empty where unknown."""
    noted = run.prediction
    split = {"split": run.split[:8]} if run.split else {}
    steps: dict[str, Any] = {}
    if asked := _numbers(noted.get("steps")):
        taken = _numbers(noted.get("step"))
        by_time = _table(noted.get("config")).get("equal_time") is True
        steps = {"steps": "of its control's time" if by_time else sorted({*asked}), "runs averaged": len(asked)}
        steps["steps taken"] = sorted({*taken}) if taken and taken != asked else "all"
    config, options = _table(noted.get("config")), _table(noted.get("options"))
    keys = {key: value for key, value in flatten(config).items() if key.split(".")[0] not in OWN}
    if methods:
        keys |= flatten({"method": _table(config.get("method"))})
    keys |= {"start": noted["start"]} if noted.get("start") else {}
    predicted = {f"predict's {key}": value for key, value in options.items()}
    labels = [{key: found} if found is not None else {} for key, found in _labels(run).items()]
    return split, steps, keys, predicted, *labels, _hd95(run) if methods else {}


def _labels(run: Scores) -> dict[str, int | None]:
    return {"labelled": run.labelled, "draw": run.draw}


def _hd95(run: Scores) -> dict[str, str]:
    found = run.info.get("hd95")
    return {HD95: found} if isinstance(found, str) else {}


def _numbers(value: object) -> list[int]:
    return value if isinstance(value, list) and all(isinstance(number, int) for number in value) else []


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "unset" if value is None else str(value)
