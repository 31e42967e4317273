"""DCT, deep co-training: two nets agree on the unlabelled crops, and each learns what fools the other to stay apart.

Paper:  Qiao, Shen, Zhang, Wang & Yuille, ECCV 2018, arXiv:1803.05984, for pictures as a whole.
Volume: as Peng, Estrada, Pedersoli & Desrosiers, Pattern Recognition 107, 2020, arXiv:1903.11233, for segmentation.
Differs from the paper: the segmentation loss is (Dice + CE) / 2, all losses are means over voxels. Both nets learn on
the same labelled crops, where published each has a batch (Qiao) or a part (Peng) of its own; they start from different
weights. What fools a net is made with the gradient's sign for unlabelled crops too, away from the class that it finds,
as in Qiao; Peng takes virtual adversarial training there. Nets learn to find in it what the other finds in the crop by
the KL divergence, whose gradient is that of the published cross-entropy while the target is fixed, as it is here; it is
0 where nothing is to be learned. Labelled and unlabelled crops weigh alike in it. The step is in units of normalised
images, of deviation 1 (Qiao: .02 of pictures in 0 to 1), and nothing is cut off. `weight_agreement` is
that of Qiao, for the divergence of a picture's class. The mean of both nets predicts, as in Peng.
Not copied: https://github.com/AlanChou/Deep-Co-Training-for-Semi-Supervised-Image-Recognition/tree/01fa554, the public
implementation, takes as their mean the softmax of the mean logits, which is not the Jensen-Shannon divergence; what
SSL4MIS calls deep co-training is one net that agrees with itself on turned images.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; x logits, p probabilities.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.adversarial import fast_gradient
from semivox.ops.dice import dice_ce, masked_cross_entropy, masked_js, masked_kl
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Stage, Terms

RAMP = 80 / 600
"""part of the run along which both weights rise, as exp(-5 (1 - t)^2): 80 of the published 600 epochs."""


class Config(MethodConfig):
    """Deep co-training's fields."""

    weight_agreement: float = Field(10.0, ge=0)
    """lambda_cot, on the Jensen-Shannon divergence of both nets on unlabelled crops; 10 as published."""
    weight_diversity: float = Field(0.5, ge=0)
    """lambda_diff, on what each net finds in crops that fool the other one; .5 as published."""
    epsilon: float = Field(0.1, ge=0)
    """by how much every voxel of such a crop is changed, in deviations of the image."""


class DCT(Method):
    """L = sum_i L_seg(p_i(x_l), y_l) + w_1(t) JS(p_1(x_u), p_2(x_u)) + w_2(t) sum_ij KL(p_i(x), p_j(x fooling i))."""

    config: Config
    family, paper = "peers", "Qiao et al., ECCV 2018"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.net_1, self.net_2 = make_net(), make_net(name="net_2")

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which both nets learn."""
        return (Stage("train", trains=("net_1", "net_2")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return both nets' supervised loss, their agreement on unlabelled crops, and what keeps them apart."""
        view, ramp = self.augment(batch, progress), sigmoid_rampup(progress.fraction / RAMP)
        image, x_l = self._found(view.image_l)
        supervised = [dice_ce(x, view.label_l, view.valid_l) for x in x_l]
        crossed = [self._crossed(image, x_l, (view.label_l, view.label_l), view.valid_l)]
        terms = Terms({"supervised": torch.stack(supervised).sum()})
        if view.image_u is not None and view.valid_u is not None:
            image, x_u = self._found(view.image_u)
            terms.losses["agreement"] = self.config.weight_agreement * ramp * masked_js(*x_u, view.valid_u)
            crossed.append(self._crossed(image, x_u, [x.argmax(1) for x in x_u], view.valid_u))
        terms.losses["diversity"] = self.config.weight_diversity * ramp * torch.stack(crossed).mean()
        if progress.logged:
            terms.shown |= {f"{name}_ramp": torch.tensor(ramp) for name in terms.losses if name != "supervised"}
        return terms

    def _found(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return crops that ask for their gradient, and what both nets find in them."""
        image = image.detach().requires_grad_()
        return image, (self.net_1(image).float(), self.net_2(image).float())

    def _crossed(self, image: Tensor, x: Sequence[Tensor], labels: Sequence[Tensor], valid: Tensor) -> Tensor:
        """Return how far each net is, in crops that fool the other one, from what that one finds in them unchanged."""
        fooling_1, fooling_2 = (
            fast_gradient(image, masked_cross_entropy(logits, label, valid), self.config.epsilon, valid)
            for logits, label in zip(x, labels, strict=True)
        )
        p_1, p_2 = (logits.softmax(1) for logits in x)
        return masked_kl(p_1, self.net_2(fooling_1), valid) + masked_kl(p_2, self.net_1(fooling_2), valid)

    def predict(self, image: Tensor) -> Tensor:
        """Return the mean of both nets' class probabilities (B, K, X, Y, Z)."""
        return (self.net_1(image).softmax(1) + self.net_2(image).softmax(1)) / 2
