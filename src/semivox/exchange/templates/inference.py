"""What configs/inference.json is made of: the list of scans, the net, its windows, and the transforms around it."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from monai.transforms import MapTransform
from torch.export.passes import move_to_device_pass

from .preparation import prepare, restored_mask, turned_back, window_weight

CHANNEL = re.compile(r"(.+)_(\d{4})(\.nii(?:\.gz)?)")


def mask_name(scan, channels):
    """Return what the mask of a scan's file is called: as the file, without the index of a channel."""
    match = CHANNEL.fullmatch(Path(scan).name)
    return match[1] + match[3] if match and int(match[2]) < channels else Path(scan).name


def list_scans(folder, channels):
    """Return the scans of a folder: CASE_0000.nii.gz, CASE_0001.nii.gz ... with a channel each, or CASE.nii.gz."""
    scans = {}
    for file in sorted([*Path(folder).glob("*.nii"), *Path(folder).glob("*.nii.gz")]):
        scans.setdefault(mask_name(file, channels), []).append(str(file))
    return [{"image": files if len(files) > 1 else files[0]} for files in scans.values()]


class Net(torch.nn.Module):
    """The traced net of a file, on a device; windows (N, C, *patch) -> probabilities (N, K, *patch)."""

    def __init__(self, file, device):
        super().__init__()
        program = move_to_device_pass(torch.export.load(file), str(device))
        self.program = [program.module()]  # in a list, since a traced module has no eval() that others may call

    def forward(self, windows):
        """Return the class probabilities of windows."""
        with torch.no_grad():
            return self.program[0](torch.as_tensor(windows))


def make_inferer(plan):
    """Return what slides windows over a prepared scan, or over each of its slices."""
    options = {"roi_size": plan["patch"], "sw_batch_size": 4}
    overlap = [max(0, 1 - (step + 0.5) / side) for step, side in zip(plan["stride"], plan["patch"], strict=True)]
    if plan["dims"] == 2:
        inferer = SliceInferer(spatial_dim=0, overlap=[0, *overlap], **options)
    else:
        inferer = SlidingWindowInferer(overlap=overlap, **options)
    inferer.roi_weight_map = torch.from_numpy(window_weight(plan))
    return inferer


class Prepared(MapTransform):
    """Scans (C, ...) in their files' axes become what the net sees; "place" is what `Restored` needs to know."""

    def __init__(self, keys, plan):
        super().__init__(keys)
        self.plan = plan

    def __call__(self, data):
        """Return the data with its scans prepared."""
        data = dict(data)
        for key in self.key_iterator(data):
            scan, affine = data[key].numpy(), data[key].affine.numpy()
            axes = nib.io_orientation(affine)
            image = np.moveaxis(nib.orientations.apply_orientation(np.moveaxis(scan, 0, -1), axes), -1, 0)
            upright = affine @ nib.orientations.inv_ornt_aff(axes, scan.shape[1:])
            prepared, place = prepare(image, upright, self.plan)
            data["place"] = json.dumps([image.shape[1:], *(np.asarray(numbers).tolist() for numbers in place)])
            data[key] = MetaTensor(np.ascontiguousarray(prepared), meta=data[key].meta)
        return data


class Restored(MapTransform):
    """Probabilities (K, ...) of prepared scans become masks (1, ...) in the grid of the scan's file."""

    def __init__(self, keys, plan):
        super().__init__(keys)
        self.plan = plan

    def __call__(self, data):
        """Return the data with masks in place of probabilities, called as the case."""
        data = dict(data)
        for key in self.key_iterator(data):
            shape, low, size, factors = json.loads(data["place"])
            place = np.array(low), np.array(size), np.array(factors)
            mask = restored_mask(data[key].cpu().numpy(), shape, place, self.plan)
            meta = dict(data["image"].meta)
            meta["filename_or_obj"] = mask_name(meta["filename_or_obj"], len(self.plan["channels"]))
            mask = turned_back(mask, np.asarray(meta["affine"]))[None]
            data[key] = MetaTensor(np.ascontiguousarray(mask), meta=meta)
        return data
