"""The label-efficiency curve: Dice against labelled cases, and what each method saves in labels at equal Dice.

::

    OUT/protocol.toml     what is run: `semivox bench` takes it, too
        config.toml       the plan that all runs share, where no config was named
        runs/             the runs, and the report of `bench`
        curve.csv         a row per method and number of labelled cases
        savings.csv       a row per method and number of labelled cases: what they are worth in labels of the control
        curve.html        figure, sentences and tables
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semivox.benchmarking.bench import bench
from semivox.benchmarking.protocols import Job, jobs_of, read_protocol
from semivox.config.toml import value_text
from semivox.data.dataset import read_dataset
from semivox.data.patients import patient_of
from semivox.data.splitting import make_split, read_split
from semivox.errors import ConfigError, RunError
from semivox.files import refuse_no_folder, write_atomic
from semivox.methods import own_name
from semivox.planning.plan import plan_dataset
from semivox.reporting.efficiency import LabelCurve, Point, write_curve
from semivox.scoring.comparison import summarise
from semivox.scoring.efficiency import saving
from semivox.scoring.scores import Group, read_scores
from semivox.training.loop import Row

CONTROL = "supervised"
"""What a saving is measured in labels of."""
PROTOCOL, CONFIG = "protocol.toml", "config.toml"


def curve(
    data: Path | str,
    *,
    labelled: Sequence[int],
    output: Path | str,
    methods: Sequence[str] = (CONTROL, "averaged_match"),
    config: Path | str | None = None,
    held_out: int = 20,
    seeds: Sequence[int] = (0, 1, 2),
    draws: int = 1,
    steps: int | None = None,
    patients: str | None = None,
    seconds: float | None = None,
    cache: Path | str | None = None,
    device: str = "auto",
    trust: bool = False,
    on_job: Callable[[Job, int, int], None] | None = None,
    on_row: Callable[[Row, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> LabelCurve:
    """Train each method with each number of labelled cases, and return what its labels are worth in the control's.

    Figure, sentences and tables are in ``output / "curve.html"``, the numbers in curve.csv and savings.csv. The runs
    are those of a protocol that is written first, so that the same call goes on where it was stopped.

    Args:
        data: nnU-Net or Medical Decathlon folder.
        labelled: numbers of labelled cases, or of patients; the smaller lie within the larger.
        output: folder of everything.
        methods: the control `supervised` and at least one more.
        config: a shipped config or a TOML file; else one plan is made that all runs share.
        held_out: how many cases (or patients) at the end of the order are scored.
        seeds: of the runs.
        draws: how many draws of the labelled cases.
        steps: of every run; else those of the config.
        patients: regular expression that finds the patient in a case's name.
        seconds: time budget of the trainings; the one that it ends stops behind a checkpoint.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        trust: run methods that semivox does not ship.
        on_job: called with (job, number, all) before each job that is not done.
        on_row: called with every row of the logs and the steps of all stages.
        on_note: called with what a new run should know and goes on without.

    Raises:
        ConfigError: the control is not among the methods, or `output` holds another curve.
        RunError: no job came to its end.
        TimeUpError: the time is up; the same call goes on.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    output, names = Path(output), [own_name(method) for method in methods]
    if CONTROL not in names or len({*names}) < max(2, len(names)):
        raise ConfigError(
            f"methods: found {', '.join(methods) or 'none'}, expected {CONTROL} and at least one other, each once: a "
            f"saving is measured in labels of {CONTROL}"
        )
    refuse_no_folder(output)
    asked = {"data": str(Path(data).resolve()), "held_out": held_out, "draws": draws}
    asked |= {"patients": patients} if patients is not None else {}
    shared = str(config) if config else _planned(data, labelled, asked, output, device=device, cache=cache)
    text = _protocol_text(asked | {"config": shared}, methods, labelled, seeds, steps)
    _write_once(output / PROTOCOL, text)
    bench(
        output / PROTOCOL, output=output / "runs", seconds=seconds, cache=cache, device=device, trust=trust,
        on_job=on_job, on_row=on_row, on_note=on_note,
    )  # fmt: skip
    found = read_curve(output)
    write_curve(found, output)
    return found


def read_curve(output: Path | str) -> LabelCurve:
    """Return what the finished runs of a curve's folder say.

    Raises:
        ConfigError: there is no protocol in it.
        RunError: none of its runs is at its end, or none of the control's.
    """
    output = Path(output)
    protocol = read_protocol(output / PROTOCOL)
    jobs = [job for job in jobs_of(protocol, output / "runs") if job.done]
    groups = _groups_by_budget(jobs, protocol.patients)
    names = [spec.name for spec in protocol.run if any(name == spec.name for name, _ in groups)]
    if CONTROL not in names:
        raise RunError(f"{output / 'runs'}: found no finished run of {CONTROL}; give the same command again")
    control = {budget: group for (name, budget), group in groups.items() if name == CONTROL}
    points, savings = [], []
    for name in names:
        for budget in sorted(budget for other, budget in groups if other == name):
            group = groups[name, budget]
            rest = _unlabelled([job for job in jobs if (job.spec.name, job.labelled) == (name, budget)])
            points.append(Point(name, budget, rest, len(group.runs), summarise(group, "dice")))
            found = saving(group, budget, control) if name != CONTROL else None
            savings += [found] if found else []
    return LabelCurve(protocol.title, CONTROL, tuple(points), tuple(savings))


def _groups_by_budget(jobs: Sequence[Job], patients: str | None) -> dict[tuple[str, int], Group]:
    """Return the scores of every method and number of labelled cases: all draws and seeds together."""
    found: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        if isinstance(job.labelled, int):
            found.setdefault((job.spec.name, job.labelled), []).append(job)
    return {
        (name, budget): Group(name, tuple(read_scores(job.scores[""]) for job in own), patients)
        for (name, budget), own in found.items()
    }


def _unlabelled(jobs: Sequence[Job]) -> int | None:
    """Return how many unlabelled cases, or patients, the jobs had; None where their runs are gone or differ in it."""
    splits = [read_split(file) for job in jobs if (file := job.folder / "run" / "split.json").is_file()]
    counts = {len({patient_of(case, split.patients, unknown=case) for case in split.unlabelled}) for split in splits}
    return counts.pop() if len(counts) == 1 else None


def _planned(
    data: Path | str, labelled: Sequence[int], asked: dict[str, Any], output: Path, *, device: str,
    cache: Path | str | None,
) -> str:  # fmt: skip
    """Return the path of the plan that all runs share, for the largest budget and a method with a teacher."""
    path = output.resolve() / CONFIG
    if not path.is_file():  # a plan looks at the machine, which may have changed: what was run stays
        whole = make_split(read_dataset(data), labelled=max(labelled), held_out=asked["held_out"],
                           patients=asked.get("patients"), hash_held_out=False)  # fmt: skip
        plan = plan_dataset(data, split=whole, device=device, cache=cache)
        write_atomic(path, lambda file: file.write(f"{plan.text()}\n".encode()))
    return str(path)


def _protocol_text(
    asked: dict[str, Any], methods: Sequence[str], labelled: Sequence[int], seeds: Sequence[int], steps: int | None
) -> str:
    """Return the protocol of a curve as TOML."""
    numbers = " and ".join(map(str, sorted({*labelled})))
    table = {"title": f"{Path(asked['data']).name}, {numbers} labelled", "control": CONTROL} | asked
    row: dict[str, Any] = {"labelled": sorted({*labelled}), "seeds": [*seeds]}
    lines = ["[bench]", *(f"{key} = {value_text(value, where=key)}" for key, value in table.items())]
    for method in methods:
        told = {"method": str(method)} | row
        lines += ["", "[[bench.run]]", *(f"{key} = {value_text(value, where=key)}" for key, value in told.items())]
        lines += [f"set = {{ steps = {steps} }}"] if steps is not None else []
    return "\n".join(lines) + "\n"


def _write_once(path: Path, text: str) -> None:
    """Write a file, or see that it is there as it would be written."""
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"{path}: found the protocol of another curve, expected that of the same words: give those, or name "
            "another folder with -o"
        )
    write_atomic(path, lambda file: file.write(text.encode()))
