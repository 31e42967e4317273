"""Duo-SegNet: two nets with half of the labels each agree on the rest, and a critic asks whether they look like labels.

Paper:  Peiris, Chen, Egan & Harandi, MICCAI 2021, arXiv:2108.11154.
Code:   https://github.com/himashi92/Duo-SegNet/tree/74593f1 (read to learn what it does; none is used).
Volume: slices or volumes alike; the critic has the nets' axes.
Differs from the paper:
  Mended. In the released code the Dice half of the supervised loss and the agreement are Python numbers, and the
  critic's view of labelled predictions is cut off (with target 0): what trains is cross-entropy and the critic's view
  of unlabelled predictions. Here every term has its gradient, and all predictions shall look real (target 1).
  K classes. Softmax, where the paper has one sigmoid channel; the agreement is the KL divergence, whose gradient is
  that of the paper's cross-entropy and which is 0 where the nets agree. The supervised loss is (Dice + CE) / 2.
  The step. The nets' losses pass through the critic without moving it, and the critic sees predictions cut off from the
  nets, made before the nets' step. So one backward of the sum and a step of both optimisers is the released
  alternation, a step of the nets and then one of the critic. Of predictions the critic learns the labelled ones alone,
  as released.
  The critic is that of pixels, with instance norm; the released batch norm of a single map is the same. It knows labels
  by how sure they are, so that what it teaches is sureness; `critic` names two of our own that see shapes. Its learning
  rate follows the nets' schedule; in the paper all rates are constant, and there is neither weight decay nor Nesterov's
  momentum (config nuclei-small).
  The halves share the draws of their crops' geometry and intensity; of an odd batch one net gets a crop more, in turn.
  The paper's step has one crop of each half and one unlabelled one. It reports the better net; here the mean predicts.
Shapes: B images, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.errors import ConfigError
from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.critics import Critic, CriticKind
from semivox.ops.adversarial import critic_loss, one_hot
from semivox.ops.dice import dice_ce, masked_kl
from semivox.ops.fields import per_item
from semivox.ops.freeze import through_frozen
from semivox.types import Batch, Progress, Stage, Terms

NETS = ("net_1", "net_2")


class Config(MethodConfig):
    """Duo-SegNet's fields."""

    weight_agreement: float = Field(0.4, ge=0)
    """on the nets' agreement on unlabelled crops; .4 as published, from the first step on."""
    weight_adversarial: float = Field(0.2, ge=0)
    """on what the critic says of the nets' predictions; .2 as published, from the first step on."""
    critic: CriticKind = "pixel"
    """what an answer of the critic rests on: one voxel's classes as in the paper, those of a patch, or of a patch and
    the image there."""
    critic_width: int | None = Field(None, ge=1)
    """channels of the critic's first layer; None: 64 as published in 2D, 16 in 3D, where 64 take gigabytes."""
    critic_lr: float = Field(5e-5, gt=0)
    """learning rate of the critic's RMSprop; as published."""
    predictor: Literal["mean", "net_1", "net_2"] = "mean"
    """which net predicts, or the mean of both."""


class DuoSegNet(Method):
    """min over nets, max over critic: sum_i L_seg(p_l_i, y_l_i) + w_1 L_agree(p_u_1, p_u_2) + w_2 L_adv(critic, p)."""

    config: Config
    family, paper = "adversaries", "Peiris et al., MICCAI 2021"
    needs = frozenset({"labelled_halves"})

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.net_1, self.net_2 = make_net(), make_net(name="net_2")
        with make_net.seeded("critic"):
            self.critic = Critic(make_net, config.critic, width=config.critic_width or (64, 16)[make_net.dims - 2])

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which both nets and the critic learn."""
        return (Stage("train", trains=(*NETS, "critic")),)

    def optimizers(self, stage: Stage) -> list[torch.optim.Optimizer]:
        """Return the configured optimiser of both nets, and the critic's RMSprop."""
        critic = torch.optim.RMSprop(self.critic.parameters(), lr=self.config.critic_lr)
        return [*super().optimizers(replace(stage, trains=NETS)), critic]

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the nets' losses and the critic's."""
        nets = self.net_1, self.net_2
        halves = [self.augment(half, progress) for half in _halves(batch)]
        x_l = [net(half.image_l).float() for net, half in zip(nets, halves, strict=True)]
        p_l = [x.softmax(1) for x in x_l]
        supervised = [dice_ce(x, half.label_l, half.valid_l) for x, half in zip(x_l, halves, strict=True)]
        fooled = [self._fooled(p, half.image_l, half.valid_l) for p, half in zip(p_l, halves, strict=True)]
        losses = {"supervised": torch.stack(supervised).sum()}
        image, valid = halves[0].image_u, halves[0].valid_u
        if image is not None and valid is not None:
            x_1, x_2 = (net(image).float() for net in nets)
            p_1, p_2 = x_1.softmax(1), x_2.softmax(1)
            agreement = masked_kl(p_2, x_1, valid) + masked_kl(p_1, x_2, valid)  # the first of each is fixed
            losses["agreement"] = self.config.weight_agreement * agreement
            fooled += [self._fooled(p, image, valid) for p in (p_1, p_2)]
        losses["adversarial"] = self.config.weight_adversarial * torch.stack(fooled).sum()
        told = [self._told(p, half) for p, half in zip(p_l, halves, strict=True)]
        losses["critic"] = torch.stack(told).sum()
        return Terms(losses)

    def _fooled(self, p: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        """Return how far predictions are from looking real; the critic does not move."""
        return critic_loss(through_frozen(self.critic, p, image, valid), valid, real=True)

    def _told(self, p: Tensor, half: Batch) -> Tensor:
        """Return how far the critic is from telling labels and predictions apart; the nets do not move."""
        valid, label = half.valid_l, one_hot(half.label_l, p.shape[1])
        says_label, says_p = (self.critic(x, half.image_l, valid) for x in (label, p.detach()))
        return critic_loss(says_label, valid, real=True) + critic_loss(says_p, valid, real=False)

    def predict(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, K, X, Y, Z): the mean of both nets', or those of one."""
        names = NETS if self.config.predictor == "mean" else (self.config.predictor,)
        return torch.stack([self.get_submodule(name)(image).softmax(1) for name in names]).mean(0)


def _halves(batch: Batch) -> Iterator[Batch]:
    """Yield the labelled crops of each half; the unlabelled ones come with the first.

    They part before they are augmented, so that no crop is mixed with one of the other half. Both have (B + 1) // 2
    crops, since a number that values decide would make a GPU wait; in one of the other half nothing is valid.
    """
    if batch.group_l is None:
        raise ConfigError("the batch does not say of which half its labelled crops are: set group_l, 0 or 1 for each")
    for group in (0, 1):
        belongs = batch.group_l == group
        kept = (~belongs).int().argsort(stable=True)[: (len(belongs) + 1) // 2]
        half = copy(batch)
        half.image_l, half.label_l = batch.image_l[kept], batch.label_l[kept]
        half.valid_l = batch.valid_l[kept] & per_item(belongs[kept], batch.valid_l[kept])
        half.targets_l, half.group_l, half.case_l, half.corner_l = {}, None, None, None
        if group:
            half.image_u, half.valid_u = None, None
        yield half
