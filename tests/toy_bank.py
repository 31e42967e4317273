"""A user's own method file: two peers that teach each other, and a bank of the newest vectors, first in, first out."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.methods.base import Method, MethodConfig
from semivox.ops.dice import dice_ce, masked_mse
from semivox.types import Batch, Progress, Stage, Terms

PLACES = 5  # no multiple of the two rows of a step, so that writing wraps around within a step


class Config(MethodConfig):
    """The shared fields."""


class ToyBank(Method):
    """Each peer matches the other's prediction; the first one's crops find the second's among those before them."""

    bank: Tensor
    pointer: Tensor

    def __init__(self, make_net: Any, config: Config) -> None:
        super().__init__(make_net, config)
        self.net_1, self.net_2 = make_net(name="net_1"), make_net(name="net_2")
        self.register_buffer("bank", torch.zeros(PLACES, self.net_1.widths["bottleneck"]))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        return (Stage("train", trains=("net_1", "net_2")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        view = self.augment(batch, progress)
        peers = self.net_1, self.net_2
        supervised = sum(dice_ce(net(view.image_l), view.label_l, view.valid_l) for net in peers)
        features = [net.encode(view.image_u) for net in peers]
        p = [net.decode(found).logits.softmax(1) for net, found in zip(peers, features, strict=True)]
        query, self.keys = (F.normalize(found["bottleneck"].flatten(2).mean(2).float()) for found in features)
        self.keys = self.keys.detach()
        positive = (query * self.keys).sum(1, keepdim=True)
        similarities = torch.cat([positive, query @ self.bank.T], 1)
        return Terms(
            {
                "supervised": supervised,
                "peers": masked_mse(p[0], p[1].detach(), view.valid_u) + masked_mse(p[1], p[0].detach(), view.valid_u),
                "contrast": -similarities.log_softmax(1)[:, 0].mean(),
            }
        )

    def after_step(self, progress: Progress) -> None:
        places = (self.pointer + torch.arange(len(self.keys), device=self.keys.device)) % PLACES
        self.bank[places] = self.keys
        self.pointer.copy_((self.pointer + len(self.keys)) % PLACES)

    def predict(self, image: Tensor) -> Tensor:
        return (self.net_1(image).softmax(1) + self.net_2(image).softmax(1)) / 2
