"""Which loss term trains the network: the gradient norm of each term at mid-run, as a share of all terms.

    python benchmarks/gradients.py RUN DATA -o benchmarks/results/gradients-la2018-small.csv

RUN is a finished run; it is trained again to its middle (the same steps bit for bit on one machine), and 10 further
batches give the norms of d term / d weights over the student network. The heads (head_*) are left out.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import torch

from semivox.data.caching import default_cache
from semivox.data.dataset import read_dataset
from semivox.data.preparation import prepare_dataset
from semivox.data.recipe import Recipe
from semivox.data.splitting import read_split
from semivox.methods.base import Method
from semivox.runs.building import make_method, make_method_config
from semivox.runs.folder import RunFolder, open_run, read_checkpoint
from semivox.training.assembly import resolve_stages
from semivox.training.loop import Loop
from semivox.training.start import make_stream, train
from semivox.types import Progress, Stage, seed_from

BATCHES = 10


def train_until(run: RunFolder, data: Path, output: Path, total_step: int) -> Path:
    """Train anew with the config of `run` until so many steps of all stages are done; return the checkpoint."""
    Loop._must_stop = lambda self, progress: progress.total_step + 1 == total_step  # type: ignore[method-assign]
    train(data, output=output, split=run.split_file, config=str(run.path / "config.toml"), device="cpu")
    found = sorted((output / "checkpoints").glob("step_*.pt"))
    return found[-1]


def norms(method: Method, stage: Stage, run: RunFolder, data: Path, start: int) -> dict[str, float]:
    """Return the mean gradient norm of each term over the student's weights."""
    dataset, lists = read_dataset(data), read_split(run.split_file)
    recipe = Recipe.from_json(run.facts["recipe"])
    cases = prepare_dataset(dataset, lists, recipe, default_cache(), targets=method.needs)
    stream = make_stream(run.config, stage, cases, lists, method.needs, 0)
    weights = list(method.get_submodule("student").parameters())
    sums: dict[str, float] = {}
    for step in range(start, start + BATCHES):
        torch.manual_seed(seed_from(run.config.seed, stage.name, step, 0))
        progress = Progress(stage.name, step, stage.steps or 1, step, run.config.seed)
        for name, term in method(stream.batch(step).to("cpu"), progress).losses.items():
            found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            norm = torch.stack([g.square().sum() for g in found if g is not None]).sum().sqrt()
            sums[name] = sums.get(name, 0.0) + float(norm) / BATCHES
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    run = open_run(options.run)
    stage = resolve_stages(run.config, make_method_config(run.config))[0]
    with tempfile.TemporaryDirectory() as folder:
        middle = train_until(run, options.data, Path(folder) / "run", run.config.steps // 2)
        state = read_checkpoint(middle)
    method = make_method(run.config, run.facts)
    method.load_state_dict(state["method"])
    found = norms(method.train(), stage, run, options.data, state["step"])
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "label", "seed", "step", "steps", "batches", "term", "gradient_norm", "share"])
        for term, norm in found.items():
            facts = [run.config.method_name, run.config.label, run.config.seed, state["step"], stage.steps, BATCHES]
            writer.writerow([*facts, term, f"{norm:.6g}", f"{norm / sum(found.values()):.4f}"])
            print(f"{term:<14} {norm:.5g}  {norm / sum(found.values()):.1%}")


if __name__ == "__main__":
    main()
