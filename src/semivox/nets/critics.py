"""Critics: small nets that say, place by place, how much a map of classes looks like a label."""

from typing import Literal

import torch
from torch import Tensor, nn

from semivox.nets.build import MakeNet
from semivox.nets.heads import make_conv, make_dropout, make_norm
from semivox.ops.adversarial import critic_loss
from semivox.ops.freeze import through_frozen
from semivox.ops.slices import coarse_mask, masked_mean

CriticKind = Literal["pixel", "patch", "image", "whole"]
"""What a critic's answer rests on: the classes of one voxel; of a patch; of a patch, and the image there; of the whole
crop, and the image."""

HALVINGS = 3
"""Strided layers of a "patch" or "image" critic, at most: with halved axes an answer then rests on 38 voxels a side."""


class Critic(nn.Module):
    """A critic of class probabilities, or of labels as such, of the size that `make_net` makes nets for; or other maps.

    "pixel" has convolutions of kernel 1 (width, 2 width, 1 channels); "patch" and "image" stride as the nets do, at
    most three times (width, 2 width, 4 width, then 1), as PatchGAN does (Isola et al., CVPR 2017, arXiv:1611.07004).
    Leaky ReLU of slope .2, and instance norm behind all layers but the first and the last: no statistics run along, and
    an answer does not depend on what else is in the batch.

    "whole" strides at all of the nets' levels and gives one answer for a crop, the mean of a linear layer over its
    valid places; as DAN's and SASSNet's critics it has no norm, but half of all channels are dropped behind each layer
    while it learns.

    Attributes:
        sees_image: whether the image is read beside the map.
        whole: whether there is one answer for a crop.
    """

    def __init__(self, make_net: MakeNet, kind: CriticKind, *, width: int, maps: int | None = None) -> None:
        """Make a critic.

        Args:
            make_net: of the nets whose maps it sees.
            kind: what an answer rests on.
            width: channels of the first layer.
            maps: channels of the map; None: the classes.
        """
        super().__init__()
        dims, halved = make_net.dims, ((2,) * make_net.dims,) * (make_net.levels - 1)
        self.sees_image, self.whole = kind in ("image", "whole"), kind == "whole"
        strides = (make_net.strides or halved)[: None if self.whole else HALVINGS]
        if kind == "pixel":
            strides = ((1,) * dims,) * 2
        beyond = 0 if kind == "pixel" else 1  # what a kernel sees to either side of its stride
        layers: list[nn.Module] = []
        channels = (maps or make_net.classes) + make_net.channels * self.sees_image
        for depth, stride in enumerate(strides):
            kernel = tuple(step + 2 * beyond for step in stride)
            layers.append(make_conv(dims, channels, width, kernel, stride=stride, padding=beyond))
            layers += [make_norm(dims, "instance", width)] if depth and not self.whole else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            layers += [make_dropout(dims, 0.5)] if self.whole else []
            channels, width = width, 2 * width
        self.layers = nn.Sequential(*layers, make_conv(dims, channels, 1, 1 if self.whole else 1 + 2 * beyond))

    def forward(self, p: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """Return logits (B, 1, *grid), of how real a map looks at every place of a grid as fine or coarser than it.

        Args:
            p: (B, K, *spatial) probabilities, a label as zeros and ones, or other maps.
            image: (B, C, *spatial), read by an "image" or "whole" critic alone.
            valid: (B, *spatial) bool; what lies elsewhere is seen as zero.
        """
        seen = torch.cat([p, image], 1) if self.sees_image else p
        logits: Tensor = self.layers(seen * valid.unsqueeze(1))
        if self.whole:
            mean = masked_mean(logits, coarse_mask(valid, logits.shape[2:]))
            return mean.reshape(len(p), *[1] * (logits.ndim - 1))
        return logits


Seen = tuple[Tensor, Tensor, Tensor]
"""What a critic is given: maps, images and where they are valid, as `Critic.forward` has them."""


def told_apart(critic: Critic, real: Seen, fake: Seen) -> tuple[Tensor, Tensor]:
    """Return what fakes lose by being told from real ones, and the critic by not telling them.

    The first passes through the critic without moving it; for the second the maps are cut off from what made them. Real
    and fake ones weigh alike whatever their numbers.
    """
    fooled = critic_loss(through_frozen(critic, *fake), fake[2], real=True)
    says_real, says_fake = (critic(maps.detach(), image, valid) for maps, image, valid in (real, fake))
    told = critic_loss(says_real, real[2], real=True) + critic_loss(says_fake, fake[2], real=False)
    return fooled, told / 2
