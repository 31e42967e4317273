"""From a pool's fingerprint to a plan: 2D or 3D, spacing, patch, net and batch that fit the data and the device.

The rules are nnU-Net's where it has them (Isensee et al., Nature Methods 2021: median spacing, patches that shrink
until they fit, strides that follow spacing). What differs: shapes and spacings are those of all scans, labelled or not;
memory and time are those that the method was measured to take; a plan for a CPU is small enough to be trained in about
an hour.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from semivox.config.toml import flatten
from semivox.data.caching import default_cache
from semivox.data.dataset import read_dataset
from semivox.data.splitting import Split, training_split
from semivox.errors import ConfigError
from semivox.planning.capacity import ELSEWHERE, SHRINK, chosen_device, device_memory, free_disk, parse_memory, short_of
from semivox.planning.costs import Device, Setup, cache_bytes, step_memory, step_seconds
from semivox.planning.fingerprint import Fingerprint, fingerprint, make_recipe
from semivox.planning.grids import (
    Grid,
    cached_shapes,
    choose_grid,
    coarsened,
    downsampling,
    patch_within,
    shown,
    shrunk,
)
from semivox.planning.measured import step_cost

__all__ = ["Fingerprint", "Plan", "fingerprint", "make_plan", "make_recipe", "parse_memory", "plan_dataset"]

CPU_SECONDS = 3600.0
"""Time that a training on a CPU is planned for."""

RECIPE = {"intensity": "strong", "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01, "schedule": "poly"}
"""What the methods of every planned run share; chosen on the development cases that docs/results.md names."""


@dataclass(frozen=True)
class Limits:
    """The largest patch (voxels), filters, crops per stream and steps of a plan."""

    voxels: int
    filters: int
    batch: int
    steps: int


LIMITS: dict[tuple[Device, int], Limits] = {
    ("cpu", 3): Limits(voxels=80_000, filters=8, batch=2, steps=6000),
    ("cpu", 2): Limits(voxels=128 * 128, filters=16, batch=4, steps=6000),
    ("cuda", 3): Limits(voxels=128**3, filters=16, batch=2, steps=6000),
    ("cuda", 2): Limits(voxels=512 * 512, filters=16, batch=12, steps=15000),
}


@dataclass(frozen=True)
class Plan:
    """A plan and what it will cost.

    Attributes:
        values: config values, nested as in a config file.
        memory: bytes that a training step needs.
        cache: bytes that the prepared scans take on disk.
        seconds: of one step; rough, a machine may be four times slower or faster.
        reasons: why it is as it is, a sentence each.
        warnings: what does not fit, a sentence each.
    """

    values: Mapping[str, Any]
    memory: int
    cache: int
    seconds: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)

    def text(self) -> str:
        """Return the plan as the lines of a config file, reasons and costs before them as comments."""
        minutes = self.values["steps"] * self.seconds / 60
        costs = f"memory {self.memory / 1e9:.1f} GB, cache {self.cache / 1e9:.2f} GB"
        time = f"{self.seconds:.2g} s a step, {minutes:.0f} minutes in all, within a factor of four"
        notes = [f"# {line}" for line in (*self.reasons, costs, time)]
        notes += [f"# warning: {line}" for line in self.warnings]
        values = [f"{key} = {json.dumps(value)}" for key, value in flatten(self.values).items() if value is not None]
        return "\n".join([*notes, *values])


def plan_dataset(
    data: Path | str,
    *,
    split: Path | str | Split | None = None,
    method: str = "averaged_match",
    memory: int | None = None,
    unlabelled: Path | str | None = None,
    device: str = "auto",
    needs: frozenset[str] = frozenset(),
    cache: Path | str | None = None,
    seconds: float | None = None,
) -> Plan:
    """Return a plan for a data folder; see `make_plan`.

    Raises:
        DatasetError: the folder or the split cannot be used.
    """
    dataset = read_dataset(data, unlabelled=unlabelled)
    lists = training_split(dataset, split)
    return make_plan(
        fingerprint(dataset.sealed(lists.labelled), lists),
        method=method,
        memory=memory,
        device=chosen_device(device),
        labelled=len(lists.labelled),
        unlabelled=len(lists.unlabelled),
        needs=needs,
        disk=free_disk(Path(cache or default_cache())),
        seconds=seconds,
    )


def make_plan(
    fingerprint: Fingerprint,
    *,
    method: str,
    memory: int | None = None,
    device: Device = "cpu",
    labelled: int,
    unlabelled: int,
    needs: frozenset[str] = frozenset(),
    fixed: Mapping[str, Any] | None = None,
    disk: int | None = None,
    seconds: float | None = None,
) -> Plan:
    """Return a plan for a pool on a device.

    Args:
        fingerprint: of the pool, labelled cases first.
        method: name; "supervised" has one stream, all others are counted with two.
        memory: bytes that training may take; the device's own when None.
        device: where training runs.
        labelled: cases of the pool with a label.
        unlabelled: cases of the pool without.
        needs: what the method needs beyond crops: "distances" take room on the disk.
        fixed: config values, nested, that the user has set: the rest is planned around them.
        disk: bytes free where the cache will lie, for a warning.
        seconds: that the training may take, which choose its steps; None: an hour on a CPU, and at most the steps that
            the field's papers take.

    Raises:
        ConfigError: a fixed patch does not fit the fixed dims.
    """
    fixed = dict(fixed or {})
    fine, reasons = choose_grid(fingerprint, fixed)
    grid, limits = fine, LIMITS[device, fine.dims]
    if device == "cpu" and not fixed.get("spacing") and not fixed.get("resize"):
        grid = coarsened(fine, limits.voxels)
    streams = method != "supervised" and unlabelled > 0
    largest = Setup(
        patch=fixed_patch(grid, fixed) or patch_within(grid, limits.voxels),
        strides=(),
        filters=fixed.get("net", {}).get("filters", limits.filters),
        channels=len(fingerprint.channels),
        classes=len(fingerprint.classes),
        labelled=fixed.get("batch_labelled", limits.batch),
        unlabelled=fixed.get("batch_unlabelled", limits.batch) if streams else 0,
        method=step_cost(method, fine.dims),
    )
    available = device_memory(device) if memory is None else memory
    setup = fitted(largest, grid, memory=available, device=device, fixed=fixed)
    cached = cache_bytes(
        cached_shapes(fingerprint, grid, fixed.get("resize")),
        channels=setup.channels,
        labelled=labelled,
        maps=2 * (setup.classes - 1) if "distances" in needs else 0,
    )
    pace = step_seconds(setup, device)
    steps = fixed.get("steps", chosen_steps(pace, limits.steps, seconds, device))
    warnings = [
        *coarsening_warnings(fine, grid),
        *short_of("memory", step_memory(setup, device), available, SHRINK),
        *short_of("disk", cached, disk, ELSEWHERE),
        *coverage_warnings(setup.patch, grid),
        *pool_warnings(method, labelled, unlabelled),
    ]
    return Plan(
        values=plan_values(setup, grid, steps=steps, resize=fixed.get("resize")),
        memory=step_memory(setup, device),
        cache=cached,
        seconds=pace,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
    )


def chosen_steps(pace: float, most: int, seconds: float | None, device: Device) -> int:
    """Return how many hundreds of steps of `pace` seconds fit, 200 at least; `most` where nobody named a time."""
    steps = (CPU_SECONDS if seconds is None else seconds) / pace
    if seconds is None:
        steps = min(most, steps) if device == "cpu" else most
    return max(200, int(steps) // 100 * 100)


def plan_values(setup: Setup, grid: Grid, *, steps: int, resize: Sequence[int] | None) -> dict[str, Any]:
    """Return a plan as config values."""
    return {
        "dims": grid.dims,
        "spacing": None if resize else grid.spacing,
        "slice_axis": grid.slice_axis,
        "patch": setup.patch,
        "steps": steps,
        "batch_labelled": setup.labelled,
        "batch_unlabelled": setup.unlabelled,
        "net": {
            "name": "vnet" if grid.dims == 3 else "unet",
            "filters": setup.filters,
            "norm": "instance",
            "levels": len(setup.strides) + 1,
            "strides": setup.strides,
        },
        "method": RECIPE,
    }


def fixed_patch(grid: Grid, fixed: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the patch that the user has set, or None."""
    patch = fixed.get("patch")
    if patch and len(patch) != grid.dims:
        raise ConfigError(f"key 'patch' has {len(patch)} numbers, but dims = {grid.dims}: give one per axis")
    return tuple(patch) if patch else None


def fitted(setup: Setup, grid: Grid, *, memory: int, device: Device, fixed: Mapping[str, Any]) -> Setup:
    """Return the setup made smaller until memory holds it: the patch first, then filters, then crops per step."""
    spacing = [grid.spacing[axis] for axis in grid.axes]
    most = fixed.get("net", {}).get("levels", 5) - 1
    while True:
        setup = replace(setup, strides=downsampling(setup.patch, spacing, most=most))
        smaller = None if fixed.get("patch") else shrunk(setup.patch, grid)
        if step_memory(setup, device) <= memory:
            return setup
        if smaller:
            setup = replace(setup, patch=smaller)
        elif setup.filters > 8 and "filters" not in fixed.get("net", {}):
            setup = replace(setup, filters=setup.filters // 2)
        elif setup.labelled > 1 and "batch_labelled" not in fixed:
            setup = replace(setup, labelled=setup.labelled // 2, unlabelled=(setup.unlabelled + 1) // 2)
        else:
            return setup


def coarsening_warnings(fine: Grid, grid: Grid) -> list[str]:
    """Return a warning where scans lose detail so that a CPU can train on them in time."""
    if fine.spacing == grid.spacing:
        return []
    change = f"from {shown(fine.spacing)} to {shown(grid.spacing)} mm"
    return [f"on a CPU scans are resampled {change}, so that a patch covers half of a scan: for detail, train on a GPU"]


def coverage_warnings(patch: Sequence[int], grid: Grid) -> list[str]:
    """Return a warning where the patch sees less than a quarter of a scan along an axis."""
    share = min(length / shape for length, shape in zip(patch, grid.crop_shape, strict=True))
    if share >= 0.25:
        return []
    scan = f"{100 * share:.0f} % of a scan of {shown(grid.crop_shape)}"
    return [f"patch {shown(patch)} covers only {scan} along one axis: set a coarser spacing if the surroundings matter"]


def pool_warnings(method: str, labelled: int, unlabelled: int) -> list[str]:
    """Return warnings about the number of cases."""
    warnings = []
    if labelled < 3:
        warnings.append(f"few labels: {labelled} labelled cases; results will depend on which ones they are")
    if unlabelled == 0 and method != "supervised":
        warnings.append(f"no unlabelled case for method {method}: add scans to imagesUn or with --unlabelled")
    return warnings
