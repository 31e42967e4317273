"""The description of a data set: dataset.json of nnU-Net (version 1, 2) or the Medical Decathlon, read and checked."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semivox.data.faults import Fault
from semivox.data.formats import ENDINGS

FILE = "dataset.json"
MOST_CLASSES = 255  # a prepared label is a byte, of which 255 says that nobody labelled the voxel
_EXAMPLE = '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1}}'


@dataclass(frozen=True)
class Description:
    """What dataset.json says.

    Attributes:
        name: of the data set.
        channels: names of the image channels, in order.
        classes: names of the classes by class index, background first.
        label_values: the value that each class has in label files.
        ignore: the value in label files of voxels that nobody labelled, or None.
        spacing_is_nominal: distances in mm would be made up.
        faults: all that is wrong with the file.
    """

    name: str
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    label_values: tuple[int, ...] = ()
    ignore: int | None = None
    spacing_is_nominal: bool = False
    faults: list[Fault] = field(default_factory=list)


def read_description(folder: Path) -> Description:
    """Return what the folder's dataset.json says, together with everything that is wrong with it."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Description(folder.name, faults=[_fault(path, "is not there", "no file", f"one such as {_EXAMPLE}")])
    except (OSError, ValueError) as error:
        return Description(folder.name, faults=[_fault(path, "cannot be read", str(error), f"JSON such as {_EXAMPLE}")])
    if not isinstance(content, dict):
        return Description(folder.name, faults=[_fault(path, "cannot be used", "no object", f"one such as {_EXAMPLE}")])
    faults: list[Fault] = []
    channels = _channels(content, path, faults)
    values, ignore = _labels(content, path, faults)
    file_ending = content.get("file_ending")
    if file_ending is not None and file_ending not in ENDINGS:
        faults.append(_fault(path, "'file_ending'", repr(file_ending), f"one of {', '.join(ENDINGS)}"))
    nominal = content.get("spacing_is_nominal", False)
    if not isinstance(nominal, bool):
        faults.append(_fault(path, "'spacing_is_nominal'", repr(nominal), "true or false"))
    return Description(
        name=str(content.get("name") or folder.name),
        channels=channels,
        classes=tuple(values),
        label_values=tuple(values.values()),
        ignore=ignore,
        spacing_is_nominal=nominal is True,
        faults=faults,
    )


def _channels(content: dict[str, Any], path: Path, faults: list[Fault]) -> tuple[str, ...]:
    named = content.get("channel_names", content.get("modality"))
    if not isinstance(named, dict) or sorted(named) != sorted(str(index) for index in range(len(named))) or not named:
        faults.append(_fault(path, "'channel_names'", repr(named), 'the channels by index, such as {"0": "MRI"}'))
        return ()
    return tuple(str(named[str(index)]) for index in range(len(named)))


def _labels(content: dict[str, Any], path: Path, faults: list[Fault]) -> tuple[dict[str, int], int | None]:
    """Return the value of each class by name, in order of value, and the value of "ignore"."""
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        faults.append(_fault(path, "'labels'", repr(labels), 'values by class, such as {"background": 0, "liver": 1}'))
        return {}, None
    if any(isinstance(value, list) for value in labels.values()) or "regions_class_order" in content:
        regions = ", ".join(f"'{name}'" for name, value in labels.items() if isinstance(value, list))
        faults.append(
            _fault(path, "region labels are not supported", f"regions {regions or '(regions_class_order)'}",
                   "one value per class", "give each disjoint part its own class and value, and join them when scoring")
        )  # fmt: skip
        return {}, None
    pairs = [_pair(str(key), value) for key, value in labels.items()]
    broken = [f"'{name}': {value!r}" for name, value in pairs if not isinstance(value, int)]
    if broken:
        faults.append(_fault(path, "'labels'", ", ".join(broken), "one whole number per class"))
        return {}, None
    return _known(sorted(pairs, key=lambda pair: pair[1]), path, faults)


def _pair(key: str, value: Any) -> tuple[str, Any]:
    """Return (name, value) from nnU-Net 2's ``"liver": 1`` or from the Decathlon's and nnU-Net 1's ``"1": "liver"``."""
    if isinstance(value, str) and key.isdecimal():
        return value, int(key)
    return key, int(value) if isinstance(value, str) and value.isdecimal() else value


def _known(pairs: list[tuple[str, int]], path: Path, faults: list[Fault]) -> tuple[dict[str, int], int | None]:
    ignore = next((value for name, value in pairs if name == "ignore"), None)
    values = {name: value for name, value in pairs if name != "ignore"}
    if len(set(values.values()) | {ignore}) < len(values) + 1 or len(dict(pairs)) < len(pairs):
        faults.append(_fault(path, "'labels'", f"a name or value twice in {pairs}", "each once"))
    elif len(values) < 2 or 0 not in values.values() or min(values.values()) < 0:
        faults.append(_fault(path, "'labels'", str(values), "0 for the background and a value above 0 per class"))
    elif len(values) > MOST_CLASSES:
        faults.append(_fault(path, "'labels'", f"{len(values)} classes", f"at most {MOST_CLASSES}", "join some"))
    return values, ignore


def _fault(path: Path, what: str, found: str, expected: str, fix: str = "edit the file") -> Fault:
    return Fault("error", str(path), what, found, expected, fix)
