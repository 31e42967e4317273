"""What a method costs: the time of one training step of each method, interleaved in one run, as a ratio to the first.

    python benchmarks/speed/steps.py -o benchmarks/results/steps.csv
    python benchmarks/speed/steps.py --methods all --net unet --filters 8 --patch 128 128 --classes 4 --batch 8 \\
        -o src/semivox/planning/steps-2d.csv
    python benchmarks/speed/steps.py --methods all --filters 8 --patch 48 48 32 -o src/semivox/planning/steps-3d.csv
    python benchmarks/speed/steps.py --net unet --patch 256 256 --classes 4 --batch 8 \\
        --methods mean_teacher arco mona -o benchmarks/results/steps-finetune.csv
    python benchmarks/speed/steps.py --memory --net unet --patch 256 256 --classes 4 --batch 8 \\
        --methods mean_teacher arco mona -o benchmarks/results/memory-finetune.csv

A step is forward + backward + optimiser + after_step on ready tensors, all terms on, in the method's last stage, banks
and queues full; with --methods all it is the mean of the method's stages, each by its share of the run's steps. A stage
that draws no unlabelled crops takes a batch of labelled ones, the others half of it labelled and half unlabelled. With
--memory, the growth of the resident peak over 3 steps of the last stage instead, each method in a fresh process;
--methods all gives both.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from semivox.files import write_table
from semivox.methods import list_methods, method_class, method_module
from semivox.methods.base import Method
from semivox.nets.build import MakeNet
from semivox.ops.freeze import learn_only
from semivox.ops.queue import ClassBanks, Queue
from semivox.runs.building import as_channels_last
from semivox.types import Batch, Progress

METHODS = ("supervised", "mean_teacher", "simcvd")


def make_batch(patch: list[int], classes: int, labelled: int, unlabelled: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(labelled + unlabelled, 1, *patch, generator=generator)
    label = balls(patch, classes).expand(labelled + unlabelled, *patch)
    valid = torch.ones(labelled + unlabelled, *patch, dtype=torch.bool)
    distances = torch.rand(labelled, classes - 1, 2, *patch, generator=generator) * 20
    whole = torch.tensor([0.0, 1.0])
    further = {
        "image_u": image[labelled:],
        "valid_u": valid[labelled:],
        "label_u": label[labelled:],
        "weight_u": torch.ones(unlabelled, *patch),
        "case_u": torch.arange(unlabelled),
        "span_u": whole.expand(unlabelled, 3, 2),
    }
    return Batch(
        image_l=image[:labelled],
        label_l=label[:labelled],
        valid_l=valid[:labelled],
        targets_l={"distances": distances},
        group_l=torch.arange(labelled) % 2,
        case_l=torch.arange(labelled),
        span_l=whole.expand(labelled, 3, 2),
        spacing=(1.0,) * len(patch),
        slice_axis=2,
        **(further if unlabelled else {}),
    )


def balls(patch: list[int], classes: int) -> torch.Tensor:
    """Return a label of balls in each other, about the centre and a quarter of each side in radius."""
    sides = torch.meshgrid(*(torch.linspace(-2, 2, length) for length in patch), indexing="ij")
    depth = 1 - torch.stack(sides).norm(dim=0)  # 1 at the centre, 0 at the outermost ball's surface
    return (depth * (classes - 1)).ceil().clamp(0, classes - 1).long()


class Contender:
    """A method in one of its stages, with its optimisers and a batch, ready to be stepped."""

    def __init__(self, name: str, options: argparse.Namespace, stage: int = -1) -> None:
        module, patch = method_module(name), options.patch
        make_net = MakeNet(
            options.net, dims=len(patch), channels=1, classes=options.classes, filters=options.filters,
            patch=tuple(patch),
        )  # fmt: skip
        config = module.Config()
        self.device = torch.device(options.device)
        self.method: Method = as_channels_last(method_class(module)(make_net, config)).to(self.device).train()
        self.stage = self.method.stages(config)[stage]
        learn_only(self.method, self.stage.trains)
        self.optimizers = self.method.optimizers(self.stage)
        half = options.batch // 2
        supervised = self.stage.batch_unlabelled == 0
        sizes = (options.batch, 0) if supervised else (half, half)
        self.batch = make_batch(patch, options.classes, *sizes).to(self.device)
        for module in self.method.modules():
            if isinstance(module, ClassBanks | Queue):
                module.rows.copy_(torch.randn(module.rows.shape))
                module.written += module.rows.numel()  # more rows than it holds

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


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Add the options that a `Contender` is made by."""
    parser.add_argument("--patch", type=int, nargs="+", default=[112, 112, 80])
    parser.add_argument("--net", default="vnet")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_setting(parser)
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    every = options.methods == ["all"]
    if every:
        options.methods = ["supervised", *(name for name in list_methods() if name != "supervised")]
    torch.set_flush_denormal(True)
    if options.memory and len(options.methods) == 1:
        print(memory_growth(options))
        return
    unit = "growth_mb" if options.memory else "median_s"
    grown = measured_memory(options) if every or options.memory else {}  # first: a process inherits its parent's peak
    found = grown if options.memory else measured_times(options, whole=every)
    base = next(iter(found.values()))
    rows = [
        {
            "method": name,
            unit: round(value, 3),
            "ratio_to_first": round(value / base, 3),
            **({"growth_mb": round(grown[name])} if every else {}),
            "net": options.net,
            "patch": "x".join(map(str, options.patch)),
            "classes": options.classes,
            "filters": options.filters,
            "batch": options.batch,
            "repeats": 3 if options.memory else options.repeats,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
        }
        for name, value in found.items()
    ]
    for row in rows:
        print(f"{row['method']:<16} {row[unit]:>9} {unit}  {row['ratio_to_first']:>6} x")
    if options.output:
        write_table(options.output, list(rows[0]), rows)


def measured_times(options: argparse.Namespace, *, whole: bool) -> dict[str, float]:
    """Return the median seconds of a step by method: of its last stage, or the mean of all by their shares."""
    shares = {name: stage_shares(name) if whole else {-1: 1.0} for name in options.methods}
    contenders = {(name, stage): Contender(name, options, stage) for name in shares for stage in shares[name]}
    seconds: dict[tuple[str, int], list[float]] = {place: [] for place in contenders}
    for number in range(options.warmups + options.repeats):
        for place, contender in contenders.items():
            taken = contender.step(50 + number)
            if number >= options.warmups:
                seconds[place].append(taken)
    return {
        name: sum(share * statistics.median(seconds[name, stage]) for stage, share in of_method.items())
        for name, of_method in shares.items()
    }


def stage_shares(name: str) -> dict[int, float]:
    """Return each stage's part of the run's steps, by its index."""
    module = method_module(name)
    stages = method_class(module).stages(module.Config())
    return {index: 1.0 if stage.share is None else stage.share for index, stage in enumerate(stages)}


def measured_memory(options: argparse.Namespace) -> dict[str, float]:
    """Return the megabytes by which three steps raise the resident peak, by method, each in a process of its own."""
    command = [sys.executable, __file__, "--memory", "--net", options.net, "--classes", str(options.classes)]
    command += ["--filters", str(options.filters), "--batch", str(options.batch)]
    command += ["--patch", *map(str, options.patch)]
    return {
        name: float(subprocess.run([*command, "--methods", name], check=True, capture_output=True, text=True).stdout)
        for name in options.methods
    }


def memory_growth(options: argparse.Namespace) -> float:
    """Return the megabytes by which three steps of the one method raise this process's resident peak."""
    contender = Contender(options.methods[0], options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(3):
        contender.step(50 + number)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


if __name__ == "__main__":
    main()
