"""What there is to spend, memory of the device and room on the disk, and the words where it falls short."""

import os
import re
import shutil
from pathlib import Path

from semivox.config.keys import Config
from semivox.errors import ConfigError
from semivox.planning.costs import Device, Setup, step_memory
from semivox.planning.measured import step_cost

SHRINK = "set a smaller patch, net.filters or batches, or use a device that has more"
ELSEWHERE = "put the cache elsewhere with --cache or SEMIVOX_CACHE, unless it holds these scans already"


def device_memory(device: Device) -> int:
    """Return the bytes that training may take: nine tenths of what the GPU has free, or half of the main memory.

    What torch has cached of earlier trainings in this process counts as free, so that the second plans as the first.

    Raises:
        ConfigError: there is no GPU.
    """
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("device = 'cuda': torch finds no GPU here; say what it has with --memory, or use cpu")
        own = int(os.environ.get("LOCAL_RANK", "0"))  # under torchrun: asking for 0 would take memory of another's GPU
        free = torch.cuda.mem_get_info(own)[0]
        return int(0.9 * (free + torch.cuda.memory_reserved(own) - torch.cuda.memory_allocated(own)))
    return int(0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def chosen_device(device: str) -> Device:
    """Return where training runs when it is asked to run on "auto", "cpu" or "cuda"."""
    import torch

    return "cuda" if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()) else "cpu"


def free_disk(folder: Path) -> int | None:
    """Return the bytes free where a folder lies or will lie; None where nothing of its path exists."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    return None if there is None else shutil.disk_usage(there).free


def parse_memory(text: str | None) -> int | None:
    """Return the bytes of an amount such as ``10GB`` or ``512 MB``; None for None.

    Raises:
        ConfigError: no such amount.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?\s*", text, re.IGNORECASE)
    if not match:
        raise ConfigError(f"memory takes a number with MB, GB or GiB, such as 10GB; found '{text}'")
    power = "KMGT".index(match[2].upper()) + 1
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def short_of(what: str, needed: int, available: int | None, remedy: str) -> list[str]:
    """Return a warning where something is short."""
    if available is None or needed <= available:
        return []
    return [f"{what}: about {needed / 1e9:.1f} GB are needed, {available / 1e9:.1f} GB are there: {remedy}"]


def memory_warnings(
    config: Config, *, channels: int, classes: int, labelled: int, unlabelled: int, device: Device
) -> list[str]:
    """Return a warning where a config that is no plan asks for more memory than there is.

    Args:
        config: with the net's numbers; nets other than ours are not counted.
        channels: of the images.
        classes: background included.
        labelled: labelled crops per step.
        unlabelled: unlabelled crops per step.
        device: where training runs.
    """
    net = config.net
    if net.name not in ("vnet", "unet"):
        return []
    setup = Setup(
        patch=config.patch,
        strides=net.strides or ((2,) * config.dims,) * (net.levels - 1),
        filters=net.filters,
        channels=channels,
        classes=classes,
        labelled=labelled,
        unlabelled=unlabelled,
        method=step_cost(config.method_name, config.dims),
    )
    return short_of("memory", step_memory(setup, device), device_memory(device), SHRINK)
