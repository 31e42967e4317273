"""Whether a method's parts are alive in a run: gradients, embeddings, filters, teachers, and contrasts that notice.

    python benchmarks/alive.py RUN DATA -o benchmarks/results/alive/NAME.csv [--at 1500]

RUN is a run folder, looked at where its newest checkpoint stands; with --at it is trained again, with its own config,
to that step (of all stages together). 10 further batches then give, one row a figure:

  gradient/TERM          norm of the term's gradient on the student, as a part of the supervised term's
  cosine                 mean cosine between the classes' mean embeddings (ARCO and MONA)
  anchors/CLASS          unlabelled pixels of a pseudo class that may be anchors, in a batch (ARCO and MONA)
  exchange               how far the contrast of slices rises when the teacher's maps are another volume's, as a part of
                         chance, 2 ln N (SimCVD)
  dice/student, teacher  mean foreground Dice of either net on the held-out cases of RUN's split, whose labels DATA has
"""

import argparse
import csv
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gradients import BATCHES, norms, train_until
from torch import nn

from semivox.data.caching import default_cache
from semivox.data.dataset import read_dataset
from semivox.data.preparation import prepare_dataset
from semivox.data.recipe import Recipe
from semivox.data.splitting import Split, read_split
from semivox.methods.base import Method
from semivox.methods.base_anatomical import AnatomicalMethod
from semivox.methods.simcvd import SimCVD
from semivox.ops.contrast import unit
from semivox.ops.windows import slide
from semivox.runs.building import make_method, make_method_config
from semivox.runs.folder import RunFolder, open_run, read_checkpoint
from semivox.training.assembly import resolve_stages
from semivox.training.start import make_stream
from semivox.types import Progress, Stage, seed_from


class Crops:
    """The batches that a run would be trained on from a step on, and its place in it."""

    def __init__(self, run: RunFolder, stage: Stage, data: Path, needs: frozenset[str], start: int) -> None:
        dataset, lists = read_dataset(data), read_split(run.split_file)
        recipe = Recipe.from_json(run.facts["recipe"])
        cases = prepare_dataset(dataset, lists, recipe, default_cache(), targets=needs)
        self.stream = make_stream(run.config, stage, cases, lists, needs, 0)
        self.run, self.stage, self.start = run, stage, start

    def forward(self, method: Method) -> Iterator[Any]:
        """Yield the terms of every batch, with the randomness that the loop would give it."""
        for step in range(self.start, self.start + BATCHES):
            torch.manual_seed(seed_from(self.run.config.seed, self.stage.name, step, 0))
            progress = Progress(self.stage.name, step, self.stage.steps or 1, step, self.run.config.seed)
            yield method(self.stream.batch(step).to("cpu"), progress)


def anatomy(method: AnatomicalMethod, crops: Crops) -> dict[str, float]:
    """Return the cosine between class means and the unlabelled anchors of every class, means over the batches."""
    classes = method.student.classes
    cosines: list[float] = []
    anchors = torch.zeros(classes)
    losses, part = method.anatomy.losses, method._part

    def watched_losses(*given: Any, **options: Any) -> Any:
        contrast, near = losses(*given, **options)
        means = unit(contrast.queries[contrast.valid].mean(1))
        if len(means) > 1:
            others = ~torch.eye(len(means), dtype=torch.bool)
            cosines.append((means @ means.mT)[others].mean().item())
        return contrast, near

    def watched_part(*given: Any, labelled: bool, **options: Any) -> Any:
        made = part(*given, labelled=labelled, **options)
        if not labelled:
            anchors.add_(made.anchors.flatten().bincount(minlength=classes + 1)[:classes] / BATCHES)
        return made

    method.anatomy.losses, method._part = watched_losses, watched_part  # type: ignore[method-assign]
    with torch.no_grad():
        for _ in crops.forward(method):
            pass
    method.anatomy.losses, method._part = losses, part  # type: ignore[method-assign]
    found = {f"anchors/{k}": anchors[k].item() for k in range(classes)}
    return {"cosine": sum(cosines) / max(len(cosines), 1), **found}


@contextmanager
def watched(module: nn.Module, change: Any) -> Iterator[None]:
    """Change what a module returns."""
    handle = module.register_forward_hook(lambda _, given, result: change(result))
    try:
        yield
    finally:
        handle.remove()


def exchange(method: SimCVD, crops: Crops) -> dict[str, float]:
    """Return how far the contrast of slices rises with another volume's maps, as a part of chance."""
    counts: list[int] = []

    def loss(swap: bool) -> float:
        maps = method.teacher_sdm
        assert maps is not None, "the run has no signed distance branch"
        swapped = watched(maps, lambda y: y.roll(1, 0) if swap else y)
        counted = watched(method.head_slices, lambda h: counts.append(h.shape[1]))
        with torch.no_grad(), swapped, counted:
            losses = [terms.losses["contrast"].item() for terms in crops.forward(method)]
        return sum(losses) / len(losses)

    config, place = method.config, crops.start / (crops.stage.steps or 1)
    ramp = math.exp(-5 * (1 - place) ** 2) if config.ramp == "all" else 1.0
    rise = (loss(True) - loss(False)) / (config.weight_contrast * ramp)
    return {"exchange": rise / (2 * math.log(sum(counts) / len(counts)))}


def dice(net: nn.Module, run: RunFolder, data: Path) -> float:
    """Return the mean foreground Dice of a net over the held-out cases, on the prepared grid."""
    lists = read_split(run.split_file)
    held_out = Split(labelled=lists.held_out, unlabelled=(), held_out=())
    cases = prepare_dataset(read_dataset(data), held_out, Recipe.from_json(run.facts["recipe"]), default_cache())
    scores = []
    for case in cases.values():
        p = slide(torch.from_numpy(np.array(case.image)), lambda x: net(x).softmax(1), patch=run.config.patch)
        found, label = p.argmax(0).numpy(), np.asarray(case.label)
        for k in range(1, p.shape[0]):
            if (label == k).any():
                scores.append(2 * ((found == k) & (label == k)).sum() / ((found == k).sum() + (label == k).sum()))
    return float(np.mean(scores))


def figures(run: RunFolder, data: Path, at: int | None) -> dict[str, float]:
    """Return every figure of a run."""
    stages = resolve_stages(run.config, make_method_config(run.config))
    with tempfile.TemporaryDirectory() as folder:
        latest = run.latest() if at is None else train_until(run, data, Path(folder) / "run", at)
        assert latest is not None, f"{run.path} has no checkpoint"
        state = read_checkpoint(latest)
    stage = stages[state["stage"]]
    method = make_method(run.config, run.facts)
    method.load_state_dict(state["method"])
    start = min(state["step"], (stage.steps or 1) - BATCHES)
    crops = Crops(run, stage, data, method.needs, start)
    found = norms(method.train(), stage, run, data, start)
    rows = {f"gradient/{term}": norm / found["supervised"] for term, norm in found.items() if term != "supervised"}
    rows |= anatomy(method, crops) if isinstance(method, AnatomicalMethod) and stage.name == "finetune" else {}
    rows |= exchange(method, crops) if isinstance(method, SimCVD) else {}
    method.eval()
    nets: dict[str, Any] = {name: getattr(method, name, None) for name in ("student", "teacher")}
    rows |= {f"dice/{name}": dice(net, run, data) for name, net in nets.items() if net is not None}
    return {"total_step": state["total_step"], **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--at", type=int, help="train again to this step of all stages together")
    options = parser.parse_args()
    run = open_run(options.run)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", "figure", "value"])
        for figure, value in figures(run, options.data, options.at).items():
            writer.writerow([run.config.method_name, run.config.seed, figure, f"{value:.4g}"])
            print(f"{figure:<24} {value:.4g}")


if __name__ == "__main__":
    main()
