"""MC-Net+: decoders that enlarge features in different ways share an encoder, and find each other's sharpened answers.

Paper:  Wu, Ge, Zhang, Xu, Zhang, Xia & Cai, Medical Image Analysis 81, 2022, arXiv:2109.09960 (MC-Net+); with two
        decoders Wu, Xu, Ge, Cai & Zhang, MICCAI 2021, arXiv:2103.02911 (MC-Net, `decoders = 2`).
Volume: slices or volumes alike; the net must have decoders of several kinds: "vnet" or "unet".
Code:   https://github.com/ycwu1997/MC-Net/tree/fee453c (read to learn what the paper leaves out; none is used).
Differs from the paper: the supervised loss of each decoder is (Dice + CE) / 2; published, half of the Dice loss alone.
Decoders differ as published in how they enlarge features (transposed convolution, linear or nearest interpolation), and
have initial weights of their own; the first one enlarges as the net does by itself. With K classes an answer is
sharpened over all of them; released, each channel by itself, which is the same for two. Sharpened answers are targets
that move: about half of the gradient flows through them on toys. That is released and not printed;
`fixed_targets` leaves it out. Consistency is that of labelled and unlabelled crops, as published. All decoders see one
view and share the encoder's features. The ramp lasts the whole run, as for the published 6,000 steps. The first decoder
predicts.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; x logits, p probabilities.
"""

from itertools import permutations

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """MC-Net's fields."""

    weight: float = Field(1.0, ge=0)
    """final weight of the mutual consistency, summed over all pairs of decoders; it ramps up as
    exp(-5 (1 - fraction)^2)."""
    weight_decoders: float = Field(1.0, ge=0)
    """on the supervised loss of each further decoder; 1, as on that of the first one, as published."""
    decoders: int = Field(3, ge=2, le=3)
    """decoders that share the encoder: 3 in MC-Net+, 2 in MC-Net."""
    temperature: float = Field(0.1, gt=0)
    """T, of the sharpening p^(1/T) over its sum; .1 as published."""
    fixed_targets: bool = False
    """whether sharpened answers are fixed; as released, they move too."""


class MCNet(Method):
    """L = sum_i L_seg(p_l_i, y_l) + w(t) sum_{i != j} || p_i - sharpened p_j ||^2 on labelled and unlabelled crops."""

    config: Config
    family, paper = "peers", "Wu et al., Medical Image Analysis 2022"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net(decoders=config.decoders, varied=True)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return all decoders' supervised losses and their mutual consistency."""
        view = self.augment(batch, progress)
        x, valid = self._decoded(view.image_l), view.valid_l
        main, *others = (dice_ce(logits, view.label_l, valid) for logits in x)
        terms = Terms({"supervised": main, "decoders": self.config.weight_decoders * torch.stack(others).sum()})
        if view.image_u is not None and view.valid_u is not None:
            x_u, valid = self._decoded(view.image_u), torch.cat([valid, view.valid_u])
            x = [torch.cat(both) for both in zip(x, x_u, strict=True)]
        ramp = sigmoid_rampup(progress.fraction)
        terms.losses["consistency"] = self.config.weight * ramp * self._mutual(x, valid)
        if progress.logged:
            terms.shown["consistency_ramp"] = torch.tensor(ramp)
        return terms

    def _decoded(self, image: Tensor) -> list[Tensor]:
        """Return every decoder's logits."""
        features = self.student.encode(image)
        return [self.student.decode(features, decoder).logits.float() for decoder in range(self.config.decoders)]

    def _mutual(self, x: list[Tensor], valid: Tensor) -> Tensor:
        """Return how far each decoder is from the sharpened answer of each other one, summed over all pairs."""
        p = [logits.softmax(1) for logits in x]
        sharp = [(logits / self.config.temperature).softmax(1) for logits in x]  # p^(1/T) over its sum
        if self.config.fixed_targets:
            sharp = [q.detach() for q in sharp]
        return torch.stack([masked_mse(p[i], sharp[j], valid) for i, j in permutations(range(len(x)), 2)]).sum()

    def predict(self, image: Tensor) -> Tensor:
        """Return the first decoder's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
