"""CVRL: voxels find the volume they lie in and themselves in another view; contours attract each other.

Paper:  You, Zhao, Staib & Duncan, MICCAI 2022, arXiv:2105.07059. A reconstruction: only its two abstracts could be
read, and no code of the authors is public. The first text has a contrast of voxels with volumes, one of voxels with
voxels, and an active contour by elastic interaction; the later one (`variant = "batch_feature"`) contrasts along batch
and feature axis, at a high and a low level. What this gives is in the paper's style, and not its figures.
Volume: slices or volumes alike; in 2D every image is a volume.
Differs from the paper:
  Chosen here, since abstracts do not say: all of what follows, and each default below. Network, supervised loss
  (CE + Dice) / 2, optimiser, schedule and the teacher's decay are those of SimCVD here, without its distance maps.
  Views. Both share one geometry. The teacher sees the clean crop, the student random intensities, noise and dropout on
  it. The teacher is in evaluation mode; its head is an average too. Contrasts compare unlabelled crops alone.
  voxel. Embeddings from the decoder at a quarter of the resolution. Global: a student's voxel against the teacher's
  mean embedding of its volume, among those of other volumes in the batch and a few remembered ones. Local: against the
  teacher's embedding of the same voxel, among all voxels drawn in the batch. Both ramp up as exp(-5 (1 - fraction)^2);
  the elastic energy acts on labels, slice by slice, and does not.
  batch_feature. Batch axis: a volume's embedding, from the bottleneck's mean, against the teacher's, among those of
  other volumes as above; a voxel's, from the last decoder feature, among a queue of earlier voxels. Feature axis: a
  dimension of the embedding, read down the bottleneck's voxels or the drawn ones, among all dimensions. Only the
  consistency of predictions ramps up; in our short runs it has about a hundredth of the supervised gradient.
  Mended. A long memory of volumes is solved by age: the student learns to differ from what earlier teachers made, and
  then volumes may be exchanged for nothing. After 200 steps on the left atrium, with two crops a step, an exchange
  raises the global loss by a fifth of chance's with 2 remembered (`volumes`), by a twentieth with 8; on the phantom,
  with 512, by a hundredth or two. Crops of one case are never each other's negatives. The elastic weight is .05: the
  gradient on the student is then 3 to 7 hundredths of the supervised one, with .01 about one. The energy sees a crop
  as if it repeated beyond its borders; padding turns its gradient by little (cosines of .96 to 1).
  The student predicts; teacher and heads are not used then.
Shapes: M unlabelled volumes, K classes, X Y Z voxels, N rows, D length of an embedding; _l labelled, _u unlabelled; _s
student, _t teacher; z embeddings of voxels, u of volumes.
"""

from collections.abc import Iterable
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.embedding import DeepHead, VoxelHead
from semivox.nets.memory import Volumes
from semivox.nets.net import Decoded, Features
from semivox.ops.contour import elastic_interaction
from semivox.ops.contrast import effective_rank, mean_variance
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.freeze import unused
from semivox.ops.perturb import with_noise
from semivox.ops.queue import Queue, gathered
from semivox.ops.ramps import run_decay, sigmoid_rampup, warmup_decay
from semivox.ops.sampling import Scheme, draw_from_each, grid_or_default
from semivox.ops.slices import coarse_mask, listed, masked_mean
from semivox.ops.views import column_contrast, queue_contrast
from semivox.types import Batch, Progress, Stage, Terms

RAMPED = ("global", "local", "consistency")


class Config(MethodConfig):
    """CVRL's fields; every default is ours; SimCVD's where it has the same field.

    A weight of 0 leaves a term out: "without" rows of a comparison.
    """

    weight_decay: float = Field(5e-4, ge=0)
    """L2 penalty on all weights; 5e-4 as in SimCVD."""
    schedule: Literal["poly", "drop", "constant"] = "drop"
    """how the learning rate falls; divided by ten at half of the steps, as in SimCVD."""
    variant: Literal["voxel", "batch_feature"] = "voxel"
    """the first text's losses (global, local, elastic), or the later text's (batch, feature, consistency)."""
    weight_global: float = Field(0.1, ge=0)
    """voxel: on the contrast of voxels with volumes."""
    weight_local: float = Field(0.1, ge=0)
    """voxel: on the contrast of voxels with voxels."""
    weight_elastic: float = Field(0.05, ge=0)
    """voxel: on the elastic energy of labelled contours, from the first step on."""
    elastic_over: Literal["slices", "volume"] = "slices"
    """voxel: whether contours attract each other within a slice or through the whole crop."""
    elastic_alpha: float = Field(1.0, gt=0)
    """voxel: what the prediction weighs against the truth; .35 in code of the term's authors."""
    elastic_sigma: float | None = Field(None, gt=0)
    """voxel: the prediction enters as clip((p - .5) / sigma, 0, 1), .25 in that code, which has no gradient below p =
    .5; None: as p."""
    weight_batch_high: float = Field(0.1, ge=0)
    """batch_feature: on the contrast of volumes."""
    weight_feature_high: float = Field(0.1, ge=0)
    """batch_feature: on the contrast of the dimensions of the bottleneck's voxels."""
    weight_batch_low: float = Field(0.1, ge=0)
    """batch_feature: on the contrast of voxels."""
    weight_feature_low: float = Field(0.1, ge=0)
    """batch_feature: on the contrast of the dimensions of the drawn voxels."""
    weight_consistency: float = Field(0.1, ge=0)
    """batch_feature: on the squared difference of the predictions."""
    tau: float = Field(0.1, gt=0)
    """temperature of all contrasts."""
    sampler: Scheme = "sg"
    """how voxels are drawn: independently, by strata, or by strata in mirrored pairs."""
    grid: tuple[int, ...] | None = None
    """cells of the sampling grid along each axis of an image; None: 4 x 4, and 2 across the slices of a volume."""
    voxels: int | None = Field(None, ge=1)
    """voxels that are drawn of every volume; None: 256, with batch_feature 512."""
    width: int | None = Field(None, ge=1)
    """length of an embedding; None: 64, with batch_feature 128."""
    volumes: int = Field(2, ge=1)
    """volumes that are remembered; see the card before taking more."""
    queue: int = Field(4096, ge=1)
    """batch_feature: voxels that are remembered."""
    noise: float = Field(0.1, ge=0)
    """standard deviation of the noise on the student's unlabelled crops, cut at twice as much."""
    ema_decay: float | None = Field(None, ge=0, lt=1)
    """decay of the teacher; None: .999, or 1 - 6 / steps in runs shorter than 6,000 steps, as for SimCVD."""


Seen = tuple[Features, Decoded]  # what a net makes of crops
Losses = tuple[dict[str, Tensor], Tensor, Tensor]  # terms; the student's drawn embeddings (N, D), and which count (N,)


class CVRL(Method):
    """L = L_seg + w_e E(p_l, y_l) + ramp (w_g L_global + w_l L_local), or the later text's five further terms."""

    config: Config
    family, paper = "contrast", "You et al., MICCAI 2022"
    queue: Queue
    """of voxels; in batch_feature alone."""

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        first = config.variant == "voxel"
        self.grid = grid_or_default(config.grid, make_net.dims, make_net.slice_axis)
        self.count, width = config.voxels or (256 if first else 512), config.width or (64 if first else 128)
        self.student = make_net()
        with make_net.seeded("head"):
            self.head = VoxelHead(self.student, width) if first else DeepHead(self.student, width)
        self.teacher, self.teacher_head = make_teacher(self.student), make_teacher(self.head)
        axis = make_net.slice_axis if make_net.dims == 3 and config.elastic_over == "slices" else None
        alpha, sigma = config.elastic_alpha, config.elastic_sigma
        self.elastic = partial(elastic_interaction, slice_axis=axis, alpha=alpha, sigma=sigma)
        self.volumes = Volumes(config.volumes, width)
        if not first:
            self.queue = Queue(config.queue, width)
        self._newest: list[tuple[Volumes | Queue, tuple[Tensor, ...]]] = []

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the student and its head learn."""
        return (Stage("train", trains=("student", "head")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised terms and, where there are unlabelled crops, the variant's others."""
        config, view = self.config, self.augment(batch, progress)
        logits = self.student(view.image_l)
        terms = Terms({"supervised": dice_ce(logits, view.label_l, view.valid_l)})
        if config.variant == "voxel":
            energy = self.elastic(logits.softmax(1), view.label_l, view.valid_l, spacing=view.spacing)
            terms.losses["elastic"] = config.weight_elastic * energy
        if view.image_u is None or view.clean_u is None or view.valid_u is None or view.case_u is None:
            # Nothing else reaches the head.
            terms.losses["supervised"] = terms.losses["supervised"] + unused(self.head)
            return terms
        seen = with_noise(
            view.image_u, scale=config.noise, clip=2 * config.noise, generator=progress.generator("noise")
        )
        features = self.student.encode(seen)
        s = features, self.student.decode(features)
        with torch.no_grad():
            features = self.teacher.encode(view.clean_u)
            t = features, self.teacher.decode(features)
        contrasts = self._voxel if config.variant == "voxel" else self._batch_feature
        losses, z, on = contrasts(s, t, view.valid_u, view.case_u, progress.generator("voxels"))
        ramp = sigmoid_rampup(progress.fraction)
        for name, loss in losses.items():
            rise = ramp if name in RAMPED else 1.0
            terms.losses[name] = rise * getattr(config, f"weight_{name}") * loss
        if progress.logged:
            terms.shown |= {f"{name}_ramp": torch.tensor(ramp) for name in losses if name in RAMPED}
            terms.shown |= {"voxel_variance": mean_variance(z[on]), "voxel_rank": effective_rank(z[on])}
        return terms

    def _voxel(self, s: Seen, t: Seen, valid: Tensor, case: Tensor, generator: torch.Generator) -> Losses:
        """Return the first text's contrasts."""
        tau, map_s = self.config.tau, self.head(s[1])
        with torch.no_grad():
            map_t = self.teacher_head(t[1])
        valid = coarse_mask(valid, map_s.shape[2:])
        voxels, on, held = self._drawn(valid, generator)
        z_s, z_t, u = listed(map_s)[voxels], listed(map_t)[voxels], masked_mean(map_t, valid)
        rows, others = self.volumes.others(u, case, held)
        own = torch.arange(len(u), device=u.device).repeat_interleave(self.count)  # the volume of each drawn voxel
        elsewhere = (voxels[:, None] != voxels) & on  # a voxel may be drawn twice
        self._newest = [(self.volumes, (u, case, held))]
        losses = {
            "global": queue_contrast(z_s, u[own], rows, others[own], on, tau=tau),
            "local": queue_contrast(z_s, z_t, z_t, elsewhere, on, tau=tau),
        }
        return losses, z_s, on

    def _batch_feature(self, s: Seen, t: Seen, valid: Tensor, case: Tensor, generator: torch.Generator) -> Losses:
        """Return the later text's losses."""
        tau, deep = self.config.tau, coarse_mask(valid, s[0]["bottleneck"].shape[2:])
        voxels, on, held = self._drawn(valid, generator)
        u_s, rows_s, z_s = self.head(*s, deep, voxels)
        with torch.no_grad():
            u_t, rows_t, z_t = self.teacher_head(*t, deep, voxels)
        rows, others = self.volumes.others(u_t, case, held)
        self._newest = [(self.volumes, (u_t, case, held)), (self.queue, (z_t, on))]
        losses = {
            "batch_high": queue_contrast(u_s, u_t, rows, others, held, tau=tau),
            "feature_high": column_contrast(rows_s, rows_t, deep.flatten(), tau=tau),
            "batch_low": queue_contrast(z_s, z_t, self.queue.rows, self.queue.filled, on, tau=tau),
            "feature_low": column_contrast(z_s, z_t, on, tau=tau),
            "consistency": masked_mse(s[1].logits.softmax(1), t[1].logits.softmax(1), valid),
        }
        return losses, z_s, on

    def _drawn(self, valid: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return drawn voxels (N,) of volumes (M, *grid), as listed, whether each counts (N,), and each volume (M,)."""
        voxels, held = draw_from_each(valid, self.count, self.grid, scheme=self.config.sampler, generator=generator)
        return voxels.flatten(), held.repeat_interleave(self.count), held

    def after_step(self, progress: Progress) -> None:
        """Move the teacher and its head, and remember the step's embeddings."""
        decay = self.config.ema_decay
        decay = warmup_decay(progress.step, run_decay(progress.steps, 6) if decay is None else decay)
        ema_update(self.teacher, self.student, decay)
        ema_update(self.teacher_head, self.head, decay)
        for memory, rows in self._newest:
            memory.push(*(gathered(x) for x in rows))
        self._newest = []

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher and its head."""
        return (self.teacher, self.teacher_head)

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
