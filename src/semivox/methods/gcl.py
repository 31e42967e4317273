"""GCL: slices at one height of their scans are alike, then regions of a slice find themselves, then labels fine-tune.

Paper:  Chaitanya, Erdil, Karani & Konukoglu, NeurIPS 2020, arXiv:2006.10511.
Code:   https://github.com/krishnabits001/domain_specific_cl/tree/1dedffe (read to learn what the paper leaves out; none
        is used).
Volume: a scan is cut across its slices into `partitions`. A slice lies in one of them. A volume's crop reaches over
several, each of which counts as a slice does: its embedding is that of its mean bottleneck feature.
Stages: "global", of all images of the pool, labelled and unlabelled, which teaches the encoder; "local", of the same
images, which teaches the decoder while the encoder stands still; "finetune", the supervised loss. They share the run's
`steps`, .3, .2 and .5 of them.
Differs from the paper:
  Global. `positives = "partition"` is G^D: positives are the partition's other views, its own and those in other crops,
  negatives the other partitions; "own" is G^R, SimCLR's. G^D- is not here. A step whose crops all lie in one partition
  has no negatives and no loss: `stages.global.batch_unlabelled` adds crops; the paper draws a slice of every partition.
  In volumes, where crops reach over whole scans, a net reads the partition off the crop's border: "partition" was
  solved in 80 steps on toy crops (a loss of .001), and its gradient gone, so there "own" is the default.
  A crop's place is that before its random geometry. Bottleneck means are standardised over the step, since behind
  instance norm all point one way; released, all cells of the bottleneck go through dense layers.
  Local. L^R: a region's positive is itself in the other view, its negatives are the other drawn regions of its image,
  in both views, 13 in all; released, 5 of 13. A region is the mean of `region` cells a side of the embedded decoder
  feature; released, they are flattened. Both views share one geometry. L^D is not here.
  Crops are drawn as in other stages: a third of the labelled ones about a foreground voxel; beyond that neither
  pre-training reads a label. The layers behind the embedded feature are first trained in the fine-tuning.
  Optimiser and learning rate are the run's, anew in every stage; in the paper Adam of 1e-3, 10,000 steps a stage.
  The supervised loss is (CE + Dice) / 2.
Shapes: B images, C channels, K classes, X Y Z voxels, S partitions, N regions; _l labelled, _u unlabelled; z_1 z_2
embeddings of two views; p probabilities.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.errors import ConfigError
from semivox.methods.base import Method, MethodConfig, refuse_no_rest
from semivox.nets.build import MakeNet
from semivox.nets.heads import mlp
from semivox.ops.contrast import class_means, group_contrast, members, standardised
from semivox.ops.dice import dice_ce
from semivox.ops.fields import drawn_places
from semivox.ops.freeze import unused
from semivox.ops.perturb import intensity, strong
from semivox.ops.regions import places
from semivox.ops.slices import coarse_mask, masked_pool
from semivox.ops.views import nt_xent
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """GCL's fields; temperature, partitions and regions are the released script's."""

    pretrain: float = Field(0.3, gt=0, lt=1)
    """share of the steps of the global contrast."""
    local: float = Field(0.2, gt=0, lt=1)
    """share of the steps of the local contrast."""
    positives: Literal["partition", "own"] | None = None
    """whom an image is to be like: whatever lies in its part of a scan, or its own other view alone; None: "partition"
    in slices, "own" in volumes."""
    partitions: int = Field(4, ge=2)
    """S, parts that a scan is cut into across its slices."""
    blocks: int = Field(3, ge=1)
    """decoder blocks that the local contrast teaches, at most as many as the net has."""
    regions: int = Field(13, ge=2)
    """regions of an image that are drawn in a step."""
    region: int = Field(3, ge=1)
    """cells of a region's side."""
    weight_global: float = Field(1.0, ge=0)
    """on the global contrast, which is alone in its stage."""
    weight_local: float = Field(1.0, ge=0)
    """on the local contrast, which is alone in its stage."""
    tau: float = Field(0.1, gt=0)
    """temperature of both contrasts."""
    width: int = Field(128, ge=1)
    """length of an embedding."""


class GCL(Method):
    """L_global(x), then L_local(x), then L_seg(x_l, y_l)."""

    config: Config
    family, paper = "contrast", "Chaitanya et al., NeurIPS 2020"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.positives = config.positives or ("partition" if make_net.dims == 2 else "own")
        self.level = min(config.blocks, len(self.student.decoded_widths)) - 1
        whole, region = self.student.widths["bottleneck"], self.student.decoded_widths[self.level]
        with make_net.seeded("head_global"):
            self.head_global = mlp(whole, whole, config.width)
        with make_net.seeded("head_local"):
            self.head_local = mlp(region, config.width, config.width)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return global and local contrast and the fine-tuning.

        Raises:
            ConfigError: nothing is left for the fine-tuning.
        """
        config = config if isinstance(config, Config) else Config()
        refuse_no_rest(pretrain=config.pretrain, local=config.local)
        images, regions = ("student.encoder", "head_global"), ("student.decoders", "head_local")
        return (
            Stage("global", share=config.pretrain, trains=images, uses=frozenset({"unlabelled"})),
            Stage("local", share=config.local, trains=regions, uses=frozenset({"unlabelled"})),
            Stage(
                "finetune",
                share=1 - config.pretrain - config.local,
                batch_unlabelled=0,
                uses=frozenset({"labels"}),
            ),
        )

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the one term of the stage."""
        if progress.stage == "global":
            return self._global(batch, progress)
        view = self.augment(batch, progress)
        if progress.stage == "local":
            return self._local(view, progress)
        return Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})

    def _global(self, batch: Batch, progress: Progress) -> Terms:
        """Return how badly what lies in one partition finds the same partition in other crops and the other view."""
        image, valid = batch.images()
        span = _all_spans(batch)
        means, found = zip(
            *(self._partitions(image, valid, span, batch, progress.generator(slot)) for slot in ("first", "second")),
            strict=True,
        )
        there = found[0] & found[1]  # (B, S)
        with torch.autocast(image.device.type, enabled=False):
            rows = torch.cat(means).flatten(0, 1)
            z_1, z_2 = self.head_global(standardised(rows, there.flatten().repeat(2))).chunk(2)
            if self.positives == "own":
                row = torch.arange(len(z_1), device=z_1.device)
                loss = nt_xent(z_1, z_2, row, there.flatten(), tau=self.config.tau)
            else:
                z_1, z_2 = (z.unflatten(0, there.shape) for z in (z_1, z_2))
                loss = (
                    group_contrast(z_1, z_2, there, tau=self.config.tau)
                    + group_contrast(z_2, z_1, there, tau=self.config.tau)
                ) / 2
        shown = {"partitions": there.any(0).float().sum()} if progress.logged else {}
        return Terms({"global": self.config.weight_global * loss}, shown)

    def _partitions(
        self, image: Tensor, valid: Tensor, span: Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return mean bottleneck features of each partition (B, S, W) in a random view, and where there are any."""
        axis, parts = batch.slice_axis if image.ndim == 5 else None, self.config.partitions
        image, warp = strong(image, generator, valid=valid, spacing=batch.spacing, slice_axis=axis)
        feature = self.student.encode(image)["bottleneck"]
        size = feature.shape[2:]
        place = places(span, size)[:, 0 if axis is None else axis]  # (B, *coarse)
        part = (place * parts).long().clamp(0, parts - 1).where(coarse_mask(warp(valid), size), parts).flatten(1)
        return class_means(feature.flatten(2).mT, part, parts), members(part, parts).any(-1)

    def _local(self, view: Batch, progress: Progress) -> Terms:
        """Return how badly drawn regions find themselves in the other view among the others of their image."""
        image, valid = view.images()
        both = [intensity(image, progress.generator(slot), "strong", valid=valid) for slot in ("first", "second")]
        with torch.no_grad():  # the encoder stands still
            features = self.student.encode(torch.cat(both))
        decoded = self.student.decode(features).features[self.level]
        cells = [max(1, round(length / self.config.region)) for length in decoded.shape[2:]]
        pooled = masked_pool(decoded, coarse_mask(valid, decoded.shape[2:]).repeat(2, *[1] * len(cells)), cells)
        z_1, z_2 = self.head_local(pooled.flatten(2).mT).chunk(2)  # (B, cells, D)
        held = coarse_mask(valid, torch.Size(cells)).flatten(1)
        drawn = drawn_places(held, self.config.regions, progress.generator("regions"))  # (B, N)
        losses = [
            nt_xent(z_1[b, index], z_2[b, index], index, held[b, index], tau=self.config.tau)
            for b, index in enumerate(drawn)
        ]
        seen = held.any(1).sum().clamp(min=1)
        # Nothing else reaches the layers behind that feature.
        loss = torch.stack(losses).sum() / seen + unused(self.student.decoders)
        return Terms({"local": self.config.weight_local * loss})

    def predict(self, image: Tensor) -> Tensor:
        """Return the class probabilities (B, K, X, Y, Z) of the one network."""
        return self.student(image).softmax(1)


def _all_spans(batch: Batch) -> Tensor:
    """Return which part of its scan every labelled and unlabelled crop holds (B, 3, 2)."""
    spans = [span for span in (batch.span_l, batch.span_u) if span is not None]
    if not spans:
        raise ConfigError("the batch does not say which part of its scan a crop holds: set span_l and span_u")
    return torch.cat(spans)
