"""Local contrast: images are told apart without labels, then pixels by their labels, then the net is fine-tuned.

Paper:  Hu, Zeng, Xu & Shi, MICCAI 2021, arXiv:2109.07407.
Code:   https://github.com/xhu248/semi_cotrast_seg/tree/71f1157 (read to learn what the paper leaves out; none is used).
Volume: slices or volumes alike; an image is a crop, of which two views are made.
Stages: "pretrain", the global contrast of all images of the pool, labelled and unlabelled, which teaches the encoder;
"local", the supervised contrast of the labelled images' pixels, which teaches the whole net; "finetune", the supervised
loss. They share the run's `steps`, .3, .2 and .5 of them.
Differs from the paper:
  Mended. The released projection head of the first stage is never given to the optimiser, and the released script of
  the second reads the labels of validation and test patients (`train_sample = 1`); here both heads learn, and no stage
  reads a label but those of labelled images. The released first stage sees the images of test patients, ours only the
  pool's. A pixel without a positive is no anchor; released, it divides 0 by 0.
  Images. Their mean bottleneck features are standardised over those of the step. The paper's bottleneck has no norm;
  behind instance norm all images' means point one way, and with SGD the contrast stayed at chance. Negatives are the
  other crops of the step alone, where the paper has 119 others: `stages.pretrain.batch_unlabelled` adds to them.
  Reductions. `reduce = "downsample"` takes every fourth voxel along each axis, across slices too; "block" contrasts all
  pixels, each within its block of 32 x 32 pixels or 8 x 8 x 8 voxels; the released script cannot start it. "sample", of
  ours, draws as many pixels of every class. "none" leaves the second stage out and gives its steps to the third. Every
  contrasted pixel's embedding is held, but no more similarities at a time where there are more (`semivox.ops.dense`).
  Views. Of the first stage: semivox's strong ones, elastic and shaded; crops of a case are negatives of each other, as
  its slices are in the paper. Of the second: strong intensities alone, on the crop of the supervised loss.
  Crops are drawn in the first stage as in others: as many labelled ones a step, whatever their share of the pool, and
  a third of them about a foreground voxel; beyond that it reads no label.
  Heads have a ReLU between their two layers, without which, as released, they are one linear map. The net is the run's,
  its layer of class logits the one it began with; optimiser and learning rate are the run's, anew in every stage, where
  the paper has Adam of 3e-4, 1e-4 and 5e-4, 120, 4 and 8 slices a step, and 100, 60 and 120 epochs. The
  supervised loss is (CE + Dice) / 2.
Shapes: B images, C channels, K classes, X Y Z voxels, G groups of N pixels; _l labelled, _u unlabelled; z_1 z_2
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
from semivox.ops.contrast import effective_rank, standardised
from semivox.ops.dense import dense_contrast, in_blocks, named_first
from semivox.ops.dice import dice_ce
from semivox.ops.freeze import unused
from semivox.ops.perturb import intensity, strong
from semivox.ops.sampling import Pool, Scheme, default_grid, grid_cells
from semivox.ops.slices import coarse_mask, listed, masked_mean, strided
from semivox.ops.views import nt_xent
from semivox.types import Batch, Progress, Stage, Terms

BLOCK = {2: 32, 3: 8}
"""Voxels of a block's side by default, by dims: the released class's for slices, and half as many voxels in volumes."""


class Config(MethodConfig):
    """The fields of the three stages; temperatures and stride are the paper's."""

    pretrain: float = Field(0.3, gt=0, lt=1)
    """share of the steps that tell images apart."""
    local: float = Field(0.2, gt=0, lt=1)
    """share of the steps that tell pixels apart by their labels; with `reduce = "none"` they are of the fine-tuning."""
    reduce: Literal["downsample", "block", "sample", "none"] = "downsample"
    """which pixels are contrasted: every `stride`-th, all of them within blocks, `count` of each class; or none."""
    stride: int = Field(4, ge=1)
    """of "downsample": voxels along each axis for one that is taken; 1 takes all."""
    block: int | None = Field(None, ge=1)
    """of "block": voxels of its side; None: 32 in 2D, as the released class, and 8 in 3D."""
    sampler: Scheme = "sg"
    """of "sample": how pixels are drawn: independently, by strata, or by strata in mirrored pairs."""
    count: int = Field(256, ge=1)
    """of "sample": pixels of every class that are asked for in a step."""
    weight_global: float = Field(1.0, ge=0)
    """on the contrast of images, which is alone in its stage."""
    weight_local: float = Field(1.0, ge=0)
    """on the contrast of pixels, which is alone in its stage."""
    tau_global: float = Field(0.5, gt=0)
    """temperature of the contrast of images."""
    tau_local: float = Field(0.1, gt=0)
    """temperature of the contrast of pixels; .1 in the released script."""
    latent: int = Field(256, ge=1)
    """length of an image's embedding."""
    width: int = Field(128, ge=1)
    """length of a pixel's embedding."""


class LocalContrast(Method):
    """L_global(x), then L_local(x_l, y_l), then L_seg(x_l, y_l)."""

    config: Config
    family, paper = "contrast", "Hu et al., MICCAI 2021"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.grid = default_grid(make_net.dims, make_net.slice_axis)
        self.student = make_net()
        whole, pixel = self.student.widths["bottleneck"], self.student.decoded_widths[-1]
        with make_net.seeded("head_global"):
            self.head_global = mlp(whole, whole, config.latent)
        with make_net.seeded("head_local"):
            self.head_local = mlp(pixel, config.width, config.width)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return global and local contrast and the fine-tuning; with `reduce = "none"` without the second.

        Raises:
            ConfigError: nothing is left for the fine-tuning.
        """
        config = config if isinstance(config, Config) else Config()
        refuse_no_rest(pretrain=config.pretrain, local=config.local)
        local, labels = 0.0 if config.reduce == "none" else config.local, frozenset({"labels"})
        images, pixels = ("student.encoder", "head_global"), ("student", "head_local")
        stages = (
            Stage("pretrain", share=config.pretrain, trains=images, uses=frozenset({"unlabelled"})),
            Stage("local", share=local, batch_unlabelled=0, trains=pixels, uses=labels),
            Stage("finetune", share=1 - config.pretrain - local, batch_unlabelled=0, uses=labels),
        )
        return tuple(stage for stage in stages if stage.share)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the one term of the stage."""
        if progress.stage == "pretrain":
            return self._pretrain(batch, progress)
        view = self.augment(batch, progress)
        if progress.stage == "local":
            return self._local(view, progress)
        return Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})

    def _pretrain(self, batch: Batch, progress: Progress) -> Terms:
        """Return how badly images, labelled or not, find their other view among both views of all others."""
        image, valid = batch.images()
        if len(image) < 2:
            raise ConfigError(
                "stage 'pretrain' tells images apart, but a step has one crop: set stages.pretrain.batch_labelled or "
                "stages.pretrain.batch_unlabelled so that there are two"
            )
        pooled = [self._pooled(image, valid, batch, progress.generator(slot)) for slot in ("first", "second")]
        seen = valid.flatten(1).any(1)
        with torch.autocast(seen.device.type, enabled=False):
            z_1, z_2 = self.head_global(standardised(torch.cat(pooled), seen.repeat(2))).chunk(2)
        loss = nt_xent(z_1, z_2, torch.arange(len(seen), device=seen.device), seen, tau=self.config.tau_global)
        shown = {"global_rank": effective_rank(z_1.detach())} if progress.logged else {}
        return Terms({"global": self.config.weight_global * loss}, shown)

    def _pooled(self, image: Tensor, valid: Tensor, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the mean bottleneck features (B, W) of a random view of images (B, C, *spatial)."""
        axis = batch.slice_axis if image.ndim == 5 else None
        image, warp = strong(image, generator, valid=valid, spacing=batch.spacing, slice_axis=axis)
        feature = self.student.encode(image)["bottleneck"]
        return masked_mean(feature, coarse_mask(warp(valid), feature.shape[2:]))

    def _local(self, view: Batch, progress: Progress) -> Terms:
        """Return how badly the foreground pixels of both views of labelled images find those of their class."""
        both = [intensity(view.image_l, progress.generator(slot), "strong", valid=view.valid_l) for slot in "ab"]
        decoded = self.student.decode(self.student.encode(torch.cat(both)))
        pixels, label, valid = self._reduced(
            decoded.features[-1], view.label_l, view.valid_l, progress.generator("pixels")
        )
        loss = dense_contrast(self.head_local(pixels), label, valid, tau=self.config.tau_local)
        # Nothing else reaches the logits'.
        shown = {"anchors": (valid & (label > 0)).float().mean()} if progress.logged else {}
        return Terms({"local": self.config.weight_local * loss + unused(self.student.decoders)}, shown)

    def _reduced(
        self, features: Tensor, label: Tensor, valid: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return groups of pixels (G, N, C) of two views (2 B, C, *spatial), their labels and whether they count."""
        config, both = self.config, [torch.cat([x, x]).unsqueeze(1) for x in (label, valid)]
        if config.reduce == "sample":
            return self._sampled(features, label, valid, generator)
        if config.reduce == "block":
            side = config.block or BLOCK[label.ndim - 1]
            pixels, *both = (in_blocks(x, side) for x in (features, *both))
        else:
            strides = [min(config.stride, length) for length in label.shape[1:]]
            pixels, *both = (listed(strided(x, strides))[None] for x in (features, *both))
        return pixels, both[0].squeeze(2), both[1].squeeze(2)

    def _sampled(
        self, features: Tensor, label: Tensor, valid: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return one group of as many pixels of every class, at the same places in both views, each pixel once."""
        y = label.where(valid, -1).flatten()
        cells = grid_cells(len(label), label.shape[1:], self.grid, device=label.device).flatten()
        pool = Pool(y, cells, classes=self.student.classes)
        drawn, found = pool.draw(self.config.count, scheme=self.config.sampler, generator=generator)
        places = drawn.where(found[:, None], -1).flatten()
        pixels = listed(features)[torch.cat([places, places + len(y)])]
        return pixels[None], y[places].repeat(1, 2), named_first(places).repeat(1, 2)

    def predict(self, image: Tensor) -> Tensor:
        """Return the class probabilities (B, K, X, Y, Z) of the one network."""
        return self.student(image).softmax(1)
