"""How much of a training step is convolution: `python benchmarks/speed/convolutions.py [-o FILE.csv]`, one thread.

Every convolution that a step calls is called once more by itself, on noise of the same shape, forward, and backward
where the step goes backward through it, in both memory formats; the faster one counts. Their sum over the time of the
step is the share that a step without anything else would have as 1. Steps and convolutions take turns.
"""

import argparse
import platform
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from steps import Contender, add_setting
from torch import Tensor, nn

from semivox.files import write_table

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
BARS = {"supervised": 0.75, "mean_teacher": 0.70, "averaged_match": 0.70}


class Call(NamedTuple):
    """One call of a convolution.

    Attributes:
        layer: of which module it is.
        shape: of its input.
        into: whether the step's backward asks for its input's gradient.
        learns: whether it asks for its weight's.
    """

    layer: nn.Module
    shape: tuple[int, ...]
    into: bool
    learns: bool


def calls_of(contender: Contender) -> Counter[Call]:
    """Return the convolutions that one step calls, and how often."""
    found: Counter[Call] = Counter()

    def note(layer: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        enabled = torch.is_grad_enabled()
        learns = enabled and any(weight.requires_grad for weight in layer.parameters())
        found[Call(layer, tuple(given[0].shape), enabled and given[0].requires_grad, learns)] += 1

    handles = [
        module.register_forward_hook(note) for module in contender.method.modules() if isinstance(module, CONVOLUTIONS)
    ]
    contender.step(50)
    for handle in handles:
        handle.remove()
    return found


def bare(call: Call, *, last: bool) -> Callable[[], None]:
    """Return the call by itself, forward and backward, with channels first or last."""
    layer: Any = type(call.layer)
    given: Any = call.layer
    words = {name: getattr(given, name) for name in ("kernel_size", "stride", "padding", "groups", "dilation")}
    kind = FORMATS[len(call.shape)] if last else torch.contiguous_format
    alone = layer(given.in_channels, given.out_channels, bias=given.bias is not None, **words).to(memory_format=kind)
    alone.requires_grad_(call.learns)
    x = torch.randn(call.shape).to(memory_format=kind).requires_grad_(call.into)

    def run() -> None:
        y = alone(x)
        if y.requires_grad:
            y.backward(y.detach())

    return run


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_setting(parser)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(BARS))
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rows = []
    for name in options.methods:
        contender = Contender(name, options)
        calls = calls_of(contender)
        steps: list[float] = []
        parts: dict[tuple[Call, bool], list[float]] = {}
        for number in range(options.repeats):
            steps.append(contender.step(51 + number))
            for call in calls:
                for last in (False, True):
                    parts.setdefault((call, last), []).append(seconds(bare(call, last=last)))
        fastest = {call: min(median(parts[call, last]) for last in (False, True)) for call in calls}
        convolutions = sum(count * fastest[call] for call, count in calls.items())
        step = median(steps)
        rows.append(
            {
                "method": name, "step_s": round(step, 3), "convolutions_s": round(convolutions, 3),
                "share": round(convolutions / step, 3), "bar": BARS.get(name, ""), "net": options.net,
                "patch": "x".join(map(str, options.patch)), "filters": options.filters, "batch": options.batch,
                "repeats": options.repeats, "torch": torch.__version__, "device": platform.machine(),
            }
        )  # fmt: skip
        print(f"{name:<16} {step:.2f} s a step, {convolutions / step:.0%} of it convolution (bar: {rows[-1]['bar']})")
    if options.output:
        write_table(options.output, list(rows[0]), rows)


if __name__ == "__main__":
    main()
