"""CCT, cross-consistency training: from spoilt features, auxiliary decoders find what the main one finds in whole ones.

Paper:  Ouali, Hudelot & Tami, CVPR 2020, arXiv:2003.09005.
Code:   https://github.com/yassouali/CCT/tree/08e82bf (read to learn what it does; none is used).
Volume: as the baseline of SSL4MIS (https://github.com/HiLab-git/SSL4MIS), with its three decoders.
Differs from the paper: the segmentation loss is (Dice + CE) / 2. Auxiliary decoders are those of feature noise, of
dropped channels and of dropped peaks; published, there are up to thirty of seven kinds on one map, whose others ask for
an attack, or for boxes of single objects. Here the skips carry as much, so features are spoilt at every level, by draws
of their own for each image. Labels train auxiliary decoders too, as in SSL4MIS and unlike the paper
(`weight_auxiliary`). The weight is the paper's: at SSL4MIS's .1 the consistency has less than a hundredth of the
supervised gradient at any time of a toy training. It ramps up along the whole run, in the released code along a tenth.
The main decoder's target is of the crop with its own intensities, the spoilt features are of random ones; published,
one view is both: `teacher_view = "paper"`. The consistency never moves the main decoder, as published: only the encoder
that it shares, and the others. The main decoder predicts.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; x logits, p probabilities.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.net import Features
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.features import channel_drop, feature_drop, feature_noise
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Terms

SPOILERS = (feature_noise, channel_drop, feature_drop)
"""One for each auxiliary decoder, in order."""


class Config(MethodConfig):
    """CCT's fields."""

    weight: float = Field(30.0, ge=0)
    """final weight of the consistency; it ramps up as exp(-5 (1 - fraction)^2); 30 as published, .1 in SSL4MIS."""
    weight_auxiliary: float = Field(1.0, ge=0)
    """on the mean of the auxiliary decoders' supervised losses; 0 in the paper, where labels train the main one alone,
    3 in SSL4MIS, where all four weigh alike."""
    teacher_view: Literal["clean", "paper"] = "clean"
    """whether the main decoder's target is of the crop with its own intensities, or of the features that are spoilt."""


class CCT(Method):
    """L = L_seg(p_l, y_l) + w_a mean_k L_seg(p_l_k, y_l) + w(t) mean_k || p_u_k - p_u ||^2, k the spoilt features'."""

    config: Config
    family, paper = "consistency", "Ouali et al., CVPR 2020"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net(decoders=1 + len(SPOILERS))

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return all decoders' supervised losses and, where there are unlabelled crops, the consistency."""
        view = self.augment(batch, progress)
        features = self.student.encode(view.image_l)
        main = self.student.decode(features).logits
        others = self._auxiliary(features, progress.generator("spoil_l"))
        auxiliary = torch.stack([dice_ce(x, view.label_l, view.valid_l) for x in others]).mean()
        terms = Terms({"supervised": dice_ce(main, view.label_l, view.valid_l)})
        terms.losses["auxiliary"] = self.config.weight_auxiliary * auxiliary
        if view.image_u is not None:
            features = self.student.encode(view.image_u)
            p = self._target(features, view)
            others = self._auxiliary(features, progress.generator("spoil_u"))
            apart = torch.stack([masked_mse(x.float().softmax(1), p, view.valid_u) for x in others]).mean()
            ramp = sigmoid_rampup(progress.fraction)
            terms.losses["consistency"] = self.config.weight * ramp * apart
            if progress.logged:
                terms.shown["consistency_ramp"] = torch.tensor(ramp)
        return terms

    @torch.no_grad()
    def _target(self, features: Features, view: Batch) -> Tensor:
        """Return what the main decoder finds in unlabelled crops."""
        if self.config.teacher_view == "clean" and view.clean_u is not None:
            features = self.student.encode(view.clean_u)
        return self.student.decode(features).logits.float().softmax(1)

    def _auxiliary(self, features: Features, generator: torch.Generator) -> list[Tensor]:
        """Return the auxiliary decoders' logits, each of features that are spoilt in its own way, at every level."""
        return [
            self.student.decode({name: spoil(x, generator) for name, x in features.items()}, decoder).logits
            for decoder, spoil in enumerate(SPOILERS, start=1)
        ]

    def predict(self, image: Tensor) -> Tensor:
        """Return the main decoder's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
