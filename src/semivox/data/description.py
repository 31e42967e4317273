"""The description of a data set: dataset.json of nnU-Net (version 1, 2) or the Medical Decathlon, read and checked."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from semivox.data.faults import Fault
from semivox.data.formats import ENDINGS
from semivox.data.names import is_plain, shown
from semivox.files import write_atomic

FILE = "dataset.json"
CODES = "segment_codes"
"""The key with the DICOM codes of classes, by name: ``{"category": [value, scheme, meaning], "type": [...]}``."""
MOST_CLASSES = 255  # a prepared label is a byte, of which 255 says that nobody labelled the voxel
_EXAMPLE = '{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1}}'


LARGEST = 2**31 - 1
"""The largest value of a class in label files."""


class Listed(NamedTuple):
    """An entry of ``"training"``: names of files, without their folders.

    Attributes:
        images: one, or one per channel.
        label: None where the entry names none.
    """

    images: tuple[str, ...]
    label: str | None


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
        machine_made: names of the cases whose label is a mask that a person accepted, not one that a person drew.
        training: the scans that are to be trained on, with the labels that are to be used, as the Decathlon lists them;
            None where nothing is listed.
        segment_codes: the DICOM codes of classes, by name, where they are known.
        faults: all that is wrong with the file.
    """

    name: str
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    label_values: tuple[int, ...] = ()
    ignore: int | None = None
    spacing_is_nominal: bool = False
    machine_made: tuple[str, ...] = ()
    training: tuple[Listed, ...] | None = None
    segment_codes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_description(folder: Path) -> Description:
    """Return what the folder's dataset.json says, together with everything that is wrong with it."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Description(folder.name, faults=[_fault(path, "is not there", "no file", f"one such as {_EXAMPLE}")])
    except (OSError, ValueError, RecursionError) as error:
        return Description(folder.name, faults=[_fault(path, "cannot be read", str(error), f"JSON such as {_EXAMPLE}")])
    if not isinstance(content, dict):
        return Description(folder.name, faults=[_fault(path, "cannot be used", "no object", f"one such as {_EXAMPLE}")])
    faults: list[Fault] = []
    channels = _channels(content, path, faults)
    values, ignore = _labels(content, path, faults)
    file_ending = content.get("file_ending")
    if file_ending is not None and file_ending not in ENDINGS:
        faults.append(_fault(path, "'file_ending'", shown(file_ending), f"one of {', '.join(ENDINGS)}"))
    nominal = content.get("spacing_is_nominal", False)
    if not isinstance(nominal, bool):
        faults.append(_fault(path, "'spacing_is_nominal'", shown(nominal), "true or false"))
    name = content.get("name") or folder.name
    if not is_plain(name):
        faults.append(_fault(path, "'name'", shown(name), "plain text"))
    return Description(
        name=name if is_plain(name) else shown(name),
        channels=channels,
        classes=tuple(values),
        label_values=tuple(values.values()),
        ignore=ignore,
        spacing_is_nominal=nominal is True,
        machine_made=_machine_made(content, path, faults),
        training=_training(content, path, faults),
        segment_codes=_segment_codes(content, path, faults),
        faults=faults,
    )


def _channels(content: dict[str, Any], path: Path, faults: list[Fault]) -> tuple[str, ...]:
    named = content.get("channel_names", content.get("modality"))
    if not isinstance(named, dict) or sorted(named) != sorted(str(index) for index in range(len(named))) or not named:
        faults.append(_fault(path, "'channel_names'", shown(named), 'the channels by index, such as {"0": "MRI"}'))
        return ()
    names = tuple(named[str(index)] for index in range(len(named)))
    if odd := [name for name in names if not is_plain(name)]:
        faults.append(_fault(path, "'channel_names'", shown(odd[0]), 'a name for each, such as {"0": "MRI"}'))
        return ()
    return names


def _training(content: dict[str, Any], path: Path, faults: list[Fault]) -> tuple[Listed, ...] | None:
    """Return the entries of "training"; an empty list says nothing, as nnU-Net's conversions leave it."""
    entries = content.get("training") or []
    pairs = [(e.get("image"), e.get("label")) if isinstance(e, dict) else (e, None) for e in _listed(entries)]
    found = [Listed(tuple(_file_name(i) or "" for i in _listed(image)), _file_name(label)) for image, label in pairs]
    broken = [shown(pair) for pair, one in zip(pairs, found, strict=True) if "" in (*one.images, one.label)]
    if not isinstance(entries, list) or broken or not all(one.images for one in found):
        wrong = ", ".join(broken[:3]) or shown(entries)
        expected = '[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}, ...]'
        faults.append(_fault(path, "'training'", wrong, expected))
        return None
    return tuple(found) or None


def write_machine_made(folder: Path, new: Mapping[str, Mapping[str, str]], *, gone: Collection[str] = ()) -> None:
    """Note in dataset.json which cases have a machine-made label; all else in it stays.

    Args:
        folder: of the data set, whose dataset.json is without faults.
        new: what is noted of each further case.
        gone: cases whose label is none any more.

    Raises:
        RunError: the file cannot be written.
    """
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    noted: dict[str, Any] = {case: note for case, note in content.get("machine_made", {}).items() if case not in gone}
    text = json.dumps(content | {"machine_made": noted | dict(new)}, indent=4, ensure_ascii=False)
    write_atomic(folder / FILE, lambda file: file.write(f"{text}\n".encode()))


def _machine_made(content: dict[str, Any], path: Path, faults: list[Fault]) -> tuple[str, ...]:
    found = content.get("machine_made", {})
    if not isinstance(found, dict) or not all(map(is_plain, found)):
        faults.append(_fault(path, "'machine_made'", shown(found), 'a note by case, such as {"case_07": {}}'))
        return ()
    return tuple(sorted(found))


def _segment_codes(content: dict[str, Any], path: Path, faults: list[Fault]) -> dict[str, dict[str, list[str]]]:
    found = content.get(CODES, {})
    kinds = list(found.values()) if isinstance(found, dict) else [found]
    for codes in kinds:
        if not isinstance(codes, dict) or {*codes} != {"category", "type"} or not all(map(_is_code, codes.values())):
            expected = '{"category": ["85756007", "SCT", "Tissue"], "type": [value, scheme, meaning]} for each class'
            faults.append(_fault(path, f"'{CODES}'", shown(codes), expected))
            return {}
    return dict(found)


def _is_code(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(is_plain, value))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _file_name(path: Any) -> str | None:
    """Return a file's name; None for None, and nothing for what is no path."""
    return None if path is None else Path(path).name if is_plain(path) else ""


def _labels(content: dict[str, Any], path: Path, faults: list[Fault]) -> tuple[dict[str, int], int | None]:
    """Return the value of each class by name, in order of value, and the value of "ignore"."""
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        faults.append(_fault(path, "'labels'", shown(labels), 'values by class, such as {"background": 0, "liver": 1}'))
        return {}, None
    if any(isinstance(value, list) for value in labels.values()) or "regions_class_order" in content:
        regions = [name for name, value in labels.items() if isinstance(value, list)]
        faults.append(
            _fault(path, "region labels are not supported",
                   f"regions {', '.join(map(shown, regions[:10])) or '(regions_class_order)'}",
                   "one value per class", "give each disjoint part its own class and value, and join them when scoring")
        )  # fmt: skip
        return {}, None
    pairs = [_pair(str(key), value) for key, value in labels.items()]
    broken = [f"{shown(name)}: {shown(value)}" for name, value in pairs if type(value) is not int or value > LARGEST]
    if broken:
        faults.append(
            _fault(path, "'labels'", ", ".join(broken[:10]), f"one whole number per class, at most {LARGEST}")
        )
        return {}, None
    if odd := [name for name, _ in pairs if not is_plain(name)]:
        faults.append(_fault(path, "'labels'", f"the class name {shown(odd[0])}", "plain text"))
        return {}, None
    return _known(sorted(pairs, key=lambda pair: pair[1]), path, faults)


def _pair(key: str, value: Any) -> tuple[str, Any]:
    """Return (name, value) from nnU-Net 2's ``"liver": 1`` or from the Decathlon's and nnU-Net 1's ``"1": "liver"``."""
    if isinstance(value, str) and _is_number(key):
        return value, int(key)
    return key, int(value) if isinstance(value, str) and _is_number(value) else value


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(LARGEST))


def _known(pairs: list[tuple[str, int]], path: Path, faults: list[Fault]) -> tuple[dict[str, int], int | None]:
    ignore = next((value for name, value in pairs if name == "ignore"), None)
    values = {name: value for name, value in pairs if name != "ignore"}
    if len(set(values.values()) | {ignore}) < len(values) + 1 or len(dict(pairs)) < len(pairs):
        faults.append(_fault(path, "'labels'", f"a name or value twice in {shown(pairs)}", "each once"))
    elif len(values) < 2 or 0 not in values.values() or min(values.values()) < 0:
        faults.append(_fault(path, "'labels'", shown(values), "0 for the background and a value above 0 per class"))
    elif len(values) > MOST_CLASSES:
        faults.append(_fault(path, "'labels'", f"{len(values)} classes", f"at most {MOST_CLASSES}", "join some"))
    return values, ignore


def _fault(path: Path, what: str, found: str, expected: str, fix: str = "edit the file") -> Fault:
    return Fault("error", str(path), what, found, expected, fix)
