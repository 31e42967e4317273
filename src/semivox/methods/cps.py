"""CPS, cross pseudo supervision: two nets that started apart label the unlabelled crops for each other.

Paper:  Chen, Yuan, Zeng & Wang, CVPR 2021, arXiv:2106.01226.
Code:   https://github.com/charlesCXK/TorchSemiSeg/tree/0c10bf0 (read to learn what it does; none is used).
Volume: as the baseline of SSL4MIS (https://github.com/HiLab-git/SSL4MIS), whose weight and ramp these are.
Differs from the paper: the segmentation loss is (Dice + CE) / 2. As in SSL4MIS, nets label unlabelled crops alone, not
the labelled ones too, and the weight ramps up to .1; published, it is 1.5 (VOC) or 6 (Cityscapes) from the first step
on. Labels come from the crop with its own intensities, those that a net learns them on from one with random ones;
published, without CutMix, one view is both: `teacher_view = "paper"`. Labels are made in a forward of their own, in the
mode that the nets are in, also where the views are the same: dropout then draws once more. Both nets are initialised
alike (He) from different seeds. CutMix, the published variant "CPS + CutMix", is `cutmix = 1`: here a box is half a
slice. The first net predicts.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; q pseudo label.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, masked_cross_entropy
from semivox.ops.mixing import mix, partner, some_boxes
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """CPS's fields."""

    weight: float = Field(0.1, ge=0)
    """final weight of the cross supervision; it ramps up as exp(-5 (1 - fraction)^2)."""
    cutmix: float = Field(0.0, ge=0, le=1)
    """share of the unlabelled crops that get a box of another one, with the labels that the nets gave that one."""
    teacher_view: Literal["clean", "paper"] = "clean"
    """whether nets label unlabelled crops with their own intensities, or the view that they learn on."""


class CPS(Method):
    """L = sum_i L_seg(p_l_i, y_l) + w(t) * (CE(p_u_1, q_2) + CE(p_u_2, q_1)), q_i = argmax p_u_i without gradient."""

    config: Config
    family, paper = "peers", "Chen et al., CVPR 2021"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.net_1, self.net_2 = make_net(), make_net(name="net_2")

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which both nets learn."""
        return (Stage("train", trains=("net_1", "net_2")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return both nets' supervised loss and, where there are unlabelled crops, the cross supervision."""
        view, nets = self.augment(batch, progress), (self.net_1, self.net_2)
        supervised = [dice_ce(net(view.image_l), view.label_l, view.valid_l) for net in nets]
        terms = Terms({"supervised": torch.stack(supervised).sum()})
        if view.image_u is not None and view.valid_u is not None:
            image, labels, valid = self._labelled(view, view.image_u, view.valid_u, progress)
            x_1, x_2 = (net(image).float() for net in nets)
            q_1, q_2 = labels
            cross = masked_cross_entropy(x_1, q_2, valid) + masked_cross_entropy(x_2, q_1, valid)
            ramp = sigmoid_rampup(progress.fraction)
            terms.losses["cross"] = self.config.weight * ramp * cross
            if progress.logged:
                terms.shown["cross_ramp"] = torch.tensor(ramp)
                terms.shown["apart"] = ((q_1 != q_2) & valid).sum() / valid.sum().clamp(min=1)
        return terms

    @torch.no_grad()
    def _labelled(
        self, view: Batch, image: Tensor, valid: Tensor, progress: Progress
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return unlabelled crops with boxes of each other, what each net finds in them, and where they are valid."""
        seen = image if self.config.teacher_view == "paper" or view.clean_u is None else view.clean_u
        labels = [net(seen).argmax(1) for net in (self.net_1, self.net_2)]
        generator = progress.generator("mix")
        boxes = some_boxes(valid.shape, self.config.cutmix, generator, slice_axis=view.slice_axis) & partner(valid)
        return mix(image, boxes), [mix(q, boxes) for q in labels], mix(valid, boxes)

    def predict(self, image: Tensor) -> Tensor:
        """Return the first net's class probabilities (B, K, X, Y, Z)."""
        return self.net_1(image).softmax(1)
