"""What a method costs: the time of one training step of each method, interleaved in one run, as a ratio to supervised.

    python benchmarks/speed/steps.py --patch 112 112 80 --filters 16 --repeats 5 -o benchmarks/results/steps.csv

A step is forward + backward + optimiser + after_step on ready tensors, all terms on. `supervised` takes a batch of 4
labelled crops, the others 2 labelled and 2 unlabelled.
"""

import argparse
import csv
import platform
import statistics
import time
from pathlib import Path

import torch

from semivox.building import as_channels_last
from semivox.methods import method_class, method_module
from semivox.methods.base import Method
from semivox.nets.build import MakeNet
from semivox.ops.freeze import learn_only
from semivox.types import Batch, Progress

METHODS = ("supervised", "mean_teacher", "simcvd")


def make_batch(patch: list[int], labelled: int, unlabelled: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(labelled + unlabelled, 1, *patch, generator=generator)
    label = (image[:labelled, 0] > 0.5).long()
    valid = torch.ones(labelled + unlabelled, *patch, dtype=torch.bool)
    distances = torch.rand(labelled, 1, 2, *patch, generator=generator) * 20
    return Batch(
        image_l=image[:labelled],
        label_l=label,
        valid_l=valid[:labelled],
        targets_l={"distances": distances},
        image_u=image[labelled:] if unlabelled else None,
        valid_u=valid[labelled:] if unlabelled else None,
        spacing=(1.0,) * len(patch),
        slice_axis=2,
    )


class Contender:
    """A method with its optimisers and a batch, ready to be stepped."""

    def __init__(self, name: str, patch: list[int], filters: int, device: str) -> None:
        module = method_module(name)
        make_net = MakeNet(dims=len(patch), channels=1, classes=2, filters=filters, patch=tuple(patch))
        config = module.Config()
        self.method: Method = as_channels_last(method_class(module)(make_net, config)).to(device).train()
        self.stage = self.method.stages(config)[0]
        learn_only(self.method, self.stage.trains)
        self.optimizers = self.method.optimizers(self.stage)
        supervised = self.stage.batch_unlabelled == 0
        self.batch = make_batch(patch, *((4, 0) if supervised else (2, 2))).to(device)
        self.device = torch.device(device)

    def step(self, number: int) -> float:
        started = time.perf_counter()
        progress = Progress(self.stage.name, number, 100, device=self.device)
        self.method(self.batch, progress).total().backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.method.after_step(progress)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs="+", default=[112, 112, 80])
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    contenders = {name: Contender(name, options.patch, options.filters, options.device) for name in options.methods}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(options.warmups + options.repeats):
        for name, contender in contenders.items():
            taken = contender.step(50 + number)
            if number >= options.warmups:
                seconds[name].append(taken)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = next(iter(medians.values()))
    rows = [
        {
            "method": name,
            "median_s": round(median, 3),
            "ratio_to_first": round(median / base, 3),
            "patch": "x".join(map(str, options.patch)),
            "filters": options.filters,
            "repeats": options.repeats,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
        }
        for name, median in medians.items()
    ]
    for row in rows:
        print(f"{row['method']:<16} {row['median_s']:>8} s  {row['ratio_to_first']:>6} x")
    if options.output:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
