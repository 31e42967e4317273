"""Loose files of one's own -> a folder that semivox reads.

    python examples/own_dataset.py scans masks DATA --channel CT --labels liver=1 tumour=2

A scan `scans/a/b.nii.gz` becomes the case `a_b`. It is labelled if `masks` has a file of the same place and name
(any ending that is read); every other scan is unlabelled. Files are copied, never changed; a scan whose values lie in a
data file beside it becomes one file.
"""

import argparse
import json
import shutil
from pathlib import Path

from semivox import check_dataset
from semivox.data.formats import bare_name, ending, files_of, mask_ending, read_raw, write_raw


def make_folder(scans: Path, masks: Path, folder: Path, *, channel: str, labels: dict[str, int]) -> Path:
    """Write a data folder in nnU-Net's layout and return it.

    Args:
        scans: folder of scans, one file each, in subfolders or not.
        masks: folder of the masks that there are.
        folder: a new folder.
        channel: what the scans show, such as "T1"; "CT" has its intensities clipped and scaled as CT.
        labels: the value in masks of each class, without the background, which is 0.
    """
    images, labelled = files(scans), files(masks)
    if strays := sorted(labelled.keys() - images.keys()):
        raise SystemExit(f"masks without a scan: {', '.join(strays)}")
    for name in ("imagesTr", "labelsTr", "imagesUn"):
        (folder / name).mkdir(parents=True)
    for case, scan in images.items():
        place = folder / ("imagesTr" if case in labelled else "imagesUn")
        copy(scan, place, f"{case}_0000")  # the first channel, here the only one
    for case, mask in labelled.items():
        copy(mask, folder / "labelsTr", case)
    description = {"channel_names": {"0": channel}, "labels": {"background": 0, **labels}}
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    return folder


def copy(scan: Path, folder: Path, name: str) -> None:
    """Copy a scan into a folder under another name."""
    if len(files_of(scan)) == 1:
        shutil.copy(scan, folder / f"{name}{ending(scan)}")
        return
    raw = read_raw(scan)  # its header names the data file, which two scans of two subfolders may call the same
    array = raw.array[..., 0] if raw.channels == 1 else raw.array
    write_raw(array, folder / f"{name}{mask_ending(scan)}", affine=raw.affine, header=raw.header)


def files(folder: Path) -> dict[str, Path]:
    """Return the scans or masks below a folder by place and name in one word: ``a/b.nii.gz`` is ``a_b``."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if ending(path) and not path.name.startswith("."):
            name = "_".join([*path.relative_to(folder).parts[:-1], bare_name(path)])
            if name in found:
                raise SystemExit(f"{found[name]} and {path} would both be the case {name}: rename one")
            found[name] = path
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channel", default="MRI")
    parser.add_argument("--labels", nargs="+", default=["target=1"], metavar="NAME=VALUE")
    given = parser.parse_args()
    labels = {name: int(value) for name, value in (pair.split("=") for pair in given.labels)}
    folder = make_folder(given.scans, given.masks, given.folder, channel=given.channel, labels=labels)
    for fault in check_dataset(folder):
        print(fault)
    print(folder)


if __name__ == "__main__":
    main()
