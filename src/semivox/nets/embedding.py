"""What turns a net's features into embeddings for contrast: of pixels, of whole images, and of windows of them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semivox.nets.heads import conv_head, make_norm, mlp, projection
from semivox.nets.net import Decoded, Features, Net
from semivox.ops.slices import coarse_mask, listed, masked_mean, masked_pool

STRIDE = 4
"""Pixels are embedded on the coarsest grid of the decoder with no more voxels than this to a side of a position: a map
with hundreds of channels at full resolution would take gigabytes."""

WINDOW = {2: 8, 3: 4}
"""Cells of a window's side; windows overlap by half, and an image is as long as four of them."""


class PixelHead(nn.Module):
    """A feature pyramid: all of a decoder's features, brought to one grid, summed and normalised; and its embedding.

    The map has few channels. `embed` makes long vectors of it, of those pixels only that are drawn.

    Attributes:
        dims: 2 or 3 spatial axes.
        strides: voxels of the image per position of the grid, one number per axis.
        width: D, the length of an embedding.
        images: the projector and predictor of whole images' embeddings; None where they are those of pixels.
    """

    def __init__(self, net: Net, width: int, *, hidden: int = 64, own_images: bool = False) -> None:
        super().__init__()
        self.dims, strides = net.dims, net.decoded_strides
        self.index = embedded_level(net)
        self.strides, self.width = strides[self.index], width
        self.ratios = [tuple(a // b for a, b in zip(self.strides, fine, strict=True)) for fine in strides]
        self.narrow = nn.ModuleList(conv_head(net.dims, channels, hidden) for channels in net.decoded_widths)
        self.norm = make_norm(net.dims, net.norm, hidden)
        self.out = nn.Linear(hidden, width)
        self.predictor = mlp(width, width, width)
        self.images = nn.ModuleList([nn.Linear(hidden, width), mlp(width, width, width)]) if own_images else None
        self.mode, self.pool = ("bilinear", F.avg_pool2d) if net.dims == 2 else ("trilinear", F.avg_pool3d)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the map (B, hidden, *grid) of a decoder's features, `Decoded.features`."""
        size = features[self.index].shape[2:]
        total = torch.zeros((), device=features[0].device)
        for feature, narrow, ratio in zip(features, self.narrow, self.ratios, strict=True):
            if feature.shape[2:].numel() > size.numel():
                total = total + narrow(self.pool(feature, ratio))
            else:
                total = total + F.interpolate(narrow(feature), size=size, mode=self.mode, align_corners=False)
        return F.relu(self.norm(total))

    def embed(self, pixels: Tensor, *, predict: bool) -> Tensor:
        """Return embeddings (..., D) of pixels (..., hidden) of the map.

        Affine unless predicted: the embedding of a mean of pixels is the mean of their embeddings.

        Args:
            pixels: from the map.
            predict: whether the predictor follows, as it does for the student.
        """
        r: Tensor = self.out(pixels)
        return self.predictor(r) if predict else r

    def embed_images(self, cells: Tensor, *, predict: bool) -> Tensor:
        """Return embeddings (..., D) of what cells of an image hold on average (..., hidden); see `embed`."""
        if self.images is None:
            return self.embed(cells, predict=predict)
        project, predictor = self.images
        r: Tensor = project(cells)
        return predictor(r) if predict else r


class RelationHead(nn.Module):
    """Embeddings of whole images, from the bottleneck, and of their windows, from the class logits (MONA, stage 1).

    Attributes:
        latent: D, the length of a global embedding.
        local_size: (windows, D_l), the shape of an image's local embeddings.
    """

    def __init__(self, net: Net, latent: int) -> None:
        super().__init__()
        classes, self.latent, self.window = net.classes, latent, WINDOW[net.dims]
        self.grid = (4 * self.window,) * net.dims
        self.project, self.predict = mlp(net.widths["bottleneck"], latent, latent), mlp(latent, latent, latent)
        self.project_local = conv_mlp(net.dims, classes, 2 * classes, classes)
        self.predict_local = conv_mlp(net.dims, classes, 2 * classes, classes)
        self.local_size = 7**net.dims, classes * self.window**net.dims

    def forward(self, bottleneck: Tensor, logits: Tensor, valid: Tensor, *, predict: bool) -> tuple[Tensor, Tensor]:
        """Return global embeddings (B, D) and local ones (windows, B, D_l).

        Args:
            bottleneck: (B, C, *coarse), the encoder's last feature.
            logits: (B, K, *spatial).
            valid: (B, *spatial) bool; what is averaged over.
            predict: whether the predictors follow, as they do for the student.
        """
        # In full precision: images differ by little, and a few vectors cost nothing.
        with torch.autocast(bottleneck.device.type, enabled=False):
            whole = self.project(masked_mean(bottleneck, coarse_mask(valid, bottleneck.shape[2:])))
            local = self.project_local(masked_pool(logits, valid, self.grid))
            if predict:
                whole, local = self.predict(whole), self.predict_local(local)
        return whole, _windows(local, self.window)


class VoxelHead(nn.Module):
    """Embeddings of unit length of the voxels of one decoder level, that of `embedded_level` (CVRL)."""

    def __init__(self, net: Net, width: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.index = embedded_level(net)
        self.project = projection(net.dims, net.decoded_widths[self.index], hidden, width, net.norm)

    def forward(self, decoded: Decoded) -> Tensor:
        """Return the map (B, D, *grid), in single precision."""
        return F.normalize(self.project(decoded.features[self.index]).float(), dim=1)


class DeepHead(nn.Module):
    """Embeddings at two levels: of images and their voxels from the bottleneck, of voxels from the decoder (CVRL)."""

    def __init__(self, net: Net, width: int, *, hidden: int = 64) -> None:
        super().__init__()
        deep = net.widths["bottleneck"]
        self.high, self.low = mlp(deep, deep, width), mlp(net.decoded_widths[-1], hidden, width)

    def forward(
        self, features: Features, decoded: Decoded, valid: Tensor, voxels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings of images (B, D), of all bottleneck voxels (R, D), and of drawn voxels (N, D).

        Args:
            features: of the encoder.
            decoded: of the decoder.
            valid: (B, *coarse) bool, voxels of the bottleneck that an image's mean is of.
            voxels: (N,) int64, places among the `listed` ones of full resolution.
        """
        bottleneck = features["bottleneck"]
        # In full precision: images differ by little.
        with torch.autocast(bottleneck.device.type, enabled=False):
            images = self.high(masked_mean(bottleneck, valid))
        return images, self.high(listed(bottleneck)), self.low(listed(decoded.features[-1])[voxels])


def _windows(x: Tensor, side: int) -> Tensor:
    """Return (windows, B, C * side^dims): the windows of (B, C, *size), each as one vector, overlapping by half."""
    dims = x.ndim - 2
    for axis in range(2, x.ndim):
        x = x.unfold(axis, side, side // 2)  # (B, C, *counts, *sides)
    x = x.flatten(2, 1 + dims).flatten(3)  # (B, C, windows, side^dims)
    return x.permute(2, 0, 1, 3).flatten(2)


def conv_mlp(dims: int, channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    """Return two linear layers with ReLU between them, applied to every voxel by itself."""
    return nn.Sequential(
        conv_head(dims, channels_in, hidden), nn.ReLU(inplace=True), conv_head(dims, hidden, channels_out)
    )


def embedded_level(net: Net) -> int:
    """Return which of `Decoded.features` has the grid that pixels are embedded on; see `STRIDE`."""
    strides = net.decoded_strides
    return next((i for i, factors in enumerate(strides) if max(factors) <= STRIDE), len(strides) - 1)
