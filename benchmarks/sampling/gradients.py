"""Variance of the contrastive gradient over the draws alone, at a frozen run of ARCO: naive, SG and SAG.

    python benchmarks/sampling/gradients.py RUN DATA --name ACDC -o benchmarks/results/sampling/gradients-acdc.csv

The run is one that was stopped in its fine-tuning (Ctrl-C, `--budget`): at the end, no unlabelled pixel is an anchor.
Weights, banks and batches of its last checkpoint are frozen; views, mixing and dropout too. For each batch,
anchors and negatives are drawn anew many times, with each scheme, and the gradient of the contrast is taken with
respect to the weights of the head and to those of the net. The variance of a gradient is the sum of its weights'
variances. `ratio` is the mean variance over batches by that of naive draws, with the 95 % interval of a bootstrap of
batches and of draws within each. `share` is the variance over draws as a part of the whole variance of the gradient
from step to step, over batches and draws; the rest is between batches, which no way of drawing lowers.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from semivox.data.caching import default_cache
from semivox.data.dataset import read_dataset
from semivox.data.preparation import prepare_dataset
from semivox.data.recipe import Recipe
from semivox.data.splitting import read_split
from semivox.files import write_table
from semivox.methods.base_anatomical import AnatomicalMethod
from semivox.nets import memory
from semivox.ops.anatomy import Contrast, Draws, anatomical_contrast
from semivox.ops.sampling import SCHEMES
from semivox.runs.building import make_method, make_method_config
from semivox.runs.folder import RunFolder, open_run, read_checkpoint
from semivox.training.assembly import resolve_stages
from semivox.training.start import make_stream
from semivox.types import Progress, seed_from

Redraw = Callable[[Draws, torch.Generator], Contrast]
SOURCES = ("bank", "batch")
PARTS = ("loss", "head", "net")
RESAMPLES = 2000


def frozen_batches(run: RunFolder, data: Path, batches: int) -> Iterator[tuple[AnatomicalMethod, Redraw]]:
    """Yield the method and the contrast of each batch, its graph included, as a function of the draws alone."""
    checkpoint = sorted((run.path / "checkpoints").glob("step_*.pt"))[-1]
    state, method = read_checkpoint(checkpoint), make_method(run.config, run.facts)
    if not isinstance(method, AnatomicalMethod):
        raise SystemExit(f"{run.path}: a run of {run.config.method_name}, expected one of arco or mona")
    method.load_state_dict(state["method"])
    method.train()
    stage = resolve_stages(run.config, make_method_config(run.config))[-1]
    lists = read_split(run.split_file)
    recipe = Recipe.from_json(run.facts["recipe"])
    cases = prepare_dataset(read_dataset(data), lists, recipe, default_cache(), targets=method.needs)
    stream = make_stream(run.config, stage, cases, lists, method.needs, 0)
    print(f"{checkpoint.name}, step {state['step']} of {stage.steps} of {stage.name}")
    for step in range(state["step"], state["step"] + batches):
        torch.manual_seed(seed_from(run.config.seed, stage.name, step, 0))
        progress = Progress(stage.name, step, stage.steps or 1, step, run.config.seed, logged=False)
        with mock.patch.object(memory, "anatomical_contrast", wraps=anatomical_contrast) as used:
            method(stream.batch(step).to("cpu"), progress)
        pixels, banks, *_ = used.call_args.args
        yield method, partial(anatomical_contrast, pixels, banks, **used.call_args.kwargs)


def drawn(method: AnatomicalMethod, redraw: Redraw, scheme: str, source: str, repeats: int) -> dict[str, Tensor]:
    """Return (repeats, size) of each part: the loss, its gradients to the weights of the head and of the net."""
    draws = dataclasses.replace(method.anatomy.draws, scheme=scheme, source=source)
    head, net = (list(module.parameters()) for module in (method.anatomy.student, method.student))
    random = torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for _ in range(repeats):
        loss = redraw(draws, random).loss
        gradients = torch.autograd.grad(loss, head + net, retain_graph=True, allow_unused=True)
        found["loss"].append(loss.detach().view(1))
        found["head"].append(flat(gradients[: len(head)]))
        found["net"].append(flat(gradients[len(head) :]))
    return {part: torch.stack(values).double() for part, values in found.items()}


def flat(gradients: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def products(found: Tensor) -> Tensor:
    """Return the inner products (repeats, repeats) of gradients, of which every variance here is made."""
    return found @ found.T


def variance(gram: Tensor, at: Tensor | None = None) -> float:
    """Return the summed variance of the draws, or of those of them that `at` lists."""
    gram = gram if at is None else gram[at][:, at]
    return float((gram.diagonal().sum() - gram.mean() * len(gram)) / (len(gram) - 1))


def ratio(grams: Sequence[Tensor], naive: Sequence[Tensor]) -> tuple[float, float, float]:
    """Return the ratio of mean variances over batches and the bounds of its interval."""
    random = torch.Generator().manual_seed(0)
    batches, repeats = len(grams), len(grams[0])
    ratios = []
    for _ in range(RESAMPLES):
        parts = [0.0, 0.0]
        for batch in torch.randint(batches, (batches,), generator=random).tolist():
            for side, of in enumerate((grams, naive)):
                parts[side] += variance(of[batch], torch.randint(repeats, (repeats,), generator=random))
        ratios.append(parts[0] / parts[1])
    low, high = torch.tensor(ratios).quantile(torch.tensor([0.025, 0.975])).tolist()
    return sum(map(variance, grams)) / sum(map(variance, naive)), low, high


def share(grams: Sequence[Tensor], means: Tensor) -> float:
    """Return the part of the variance from step to step that is from the draws: `means` (batches, size)."""
    within = sum(map(variance, grams)) / len(grams)
    between = float(means.var(0).sum()) - within / len(grams[0])  # the means of draws vary by them too
    return within / (within + max(between, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True, help="what the data are called in the table")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    run = open_run(options.run)
    keys = [(source, scheme, part) for source in SOURCES for scheme in SCHEMES for part in PARTS]
    grams: dict[tuple[str, ...], list[Tensor]] = {key: [] for key in keys}
    means: dict[tuple[str, ...], list[Tensor]] = {key: [] for key in keys}
    for number, (method, redraw) in enumerate(frozen_batches(run, options.data, options.batches), 1):
        for source in SOURCES:
            for scheme in SCHEMES:
                for part, found in drawn(method, redraw, scheme, source, options.repeats).items():
                    grams[source, scheme, part].append(products(found))
                    means[source, scheme, part].append(found.mean(0))
        print(f"batch {number} of {options.batches}")
    rows = []
    for key in keys:
        source, scheme, part = key
        mean, low, high = ratio(grams[key], grams[source, "naive", part])
        interval = {"low": "", "high": ""} if scheme == "naive" else {"low": f"{low:.3f}", "high": f"{high:.3f}"}
        facts = {"data": options.name, "negatives_from": source, "of": part, "scheme": scheme, "ratio": f"{mean:.3f}"}
        counts = {"batches": options.batches, "repeats": options.repeats}
        rows.append(facts | interval | {"share": f"{share(grams[key], torch.stack(means[key])):.4f}"} | counts)
        print(*rows[-1].values())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_table(options.output, list(rows[0]), rows)


if __name__ == "__main__":
    main()
