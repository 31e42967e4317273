"""Makes the mask of a scan, as `semivox predict` does: ``python predict.py SCAN.nii.gz MASK.nii.gz``.

A scan is one NIfTI file, or one for each channel in their order: SCAN_0000.nii.gz SCAN_0001.nii.gz MASK.nii.gz.
Needs numpy, nibabel, scipy and onnxruntime, but no semivox; torch in place of onnxruntime where the net is net.pt2.
"""

import itertools
import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from preparation import prepare, restored_mask, turned_back, window_weight

HERE = Path(__file__).parent


def read_net():
    """Return what makes probabilities (1, K, ...) of a window (1, C, ...)."""
    if (HERE / "net.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(HERE / "net.onnx", providers=["CPUExecutionProvider"])
        return lambda window: session.run(None, {"windows": window})[0]
    import torch

    net = torch.export.load(HERE / "net.pt2").module()
    return lambda window: net(torch.from_numpy(window)).detach().numpy()


def slide(image, net, plan):
    """Return the mean probabilities of all windows over a prepared scan."""
    weight, steps = window_weight(plan), [1] * (3 - plan["dims"]) + plan["stride"]
    margin = np.maximum(0, np.subtract(weight.shape, image.shape[1:]))
    padded = np.pad(image, [(0, 0), *np.stack([margin // 2, margin - margin // 2], axis=1)])
    total, weights = np.zeros((len(plan["values"]), *padded.shape[1:]), np.float32), 0 * padded[0]
    last = np.subtract(padded.shape[1:], weight.shape)
    for corner in itertools.product(*(sorted({*range(0, n, step), n}) for n, step in zip(last, steps, strict=True))):
        box = tuple(map(slice, corner, np.add(corner, weight.shape)))
        window = np.ascontiguousarray(padded[(slice(None), *box)])
        total[(slice(None), *box)] += weight * net(window.reshape(1, -1, *plan["patch"])).reshape(-1, *weight.shape)
        weights[box] += weight
    return (total / weights)[(slice(None), *map(slice, margin // 2, margin // 2 + image.shape[1:]))]


def main(scans, target):
    """Write the mask of a scan, whole or not at all."""
    plan = json.loads((HERE / "preparation.json").read_text(encoding="utf-8"))
    files = [nib.load(scan) for scan in scans]
    volumes = [nib.as_closest_canonical(file) for file in files]
    arrays = [np.asarray(volume.dataobj).astype(np.float32) for volume in volumes]
    image = np.concatenate([np.moveaxis(x.reshape(*x.shape[:3], -1), -1, 0) for x in arrays])
    if len(image) != len(plan["channels"]) or not np.isfinite(image).all():
        raise ValueError(f"found {len(image)} channels, expected finite ones of {', '.join(plan['channels'])}")
    if not all(np.allclose(volume.affine, volumes[0].affine, atol=1e-2) for volume in volumes):
        raise ValueError("its channels lie on different grids")
    prepared, place = prepare(image, volumes[0].affine, plan)
    mask = restored_mask(slide(prepared, read_net(), plan), image.shape[1:], place, plan)
    unfinished = target.with_name(f".unfinished-{target.name}")
    nib.save(nib.Nifti1Image(turned_back(mask, files[0].affine), files[0].affine), unfinished)
    os.replace(unfinished, target)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1:-1], Path(sys.argv[-1]))
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
