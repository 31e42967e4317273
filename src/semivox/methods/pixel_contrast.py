"""Pixel contrast: six contrastive frameworks on pixels that are drawn per class, to compare the samplers in them.

Paper:  "other contrastive frameworks" in the appendix of ARCO (You et al., NeurIPS 2023, arXiv:2302.01735). A
reconstruction: each framework by its own paper, what the appendix's table leaves open as written here.
  simclr: Chen et al., ICML 2020, arXiv:2002.05709.   moco: Chen et al., 2020 (MoCo v2), arXiv:2003.04297.
  knn_moco: Van Gansbeke et al., NeurIPS 2021, arXiv:2106.05967.   byol: Grill et al., NeurIPS 2020, arXiv:2006.07733.
  isd: Tejankar et al., ICCV 2021, arXiv:2012.09259.   vicreg: Bardes et al., ICLR 2022, arXiv:2105.04906.
Volume: slices or volumes alike; a cell of the sampling grid is a box of a volume.
Differs from the paper:
  ARCO's sampler draws `count` pixels of every class, by labels on labelled images and by the class that the second
  view's net finds on the others; the framework then compares two views of them. Sampling is exactly unbiased
  (`semivox.ops.sampling`). All frameworks share all else, so that rows differ by framework and sampler alone: a
  supervised loss from the first step, (CE + Dice) / 2, beside which the contrast ramps up as exp(-5 (1 - fraction)^2).
  Views. Both have one geometry, so the drawn positions agree; they differ by random intensities and dropout. Of
  labelled images the first view is the crop of the supervised loss.
  moco, knn_moco, byol and isd compare the student's first view with the teacher's second one, without the swapped half
  that BYOL adds; simclr and vicreg pass both views through the student and have no teacher.
  Negatives. simclr: all other pixels drawn, of whatever class, save further draws of the same pixel; moco: a queue that
  starts empty; knn_moco: the teacher's key chooses the neighbours, in the space of the contrast.
  byol and isd predict with the student alone; elsewhere the predictor is the end of both views' projection.
  isd has the temperatures of ARCO's first stage. vicreg weighs its terms 25, 25 and 1, all divided by 25.
  The teacher is in evaluation mode; its decay starts as min(1 - 1 / (step + 1), .99). The student predicts.
Shapes: B images, K classes, X Y Z voxels, H channels of the map, N = K * count rows, D length of an embedding; _l
labelled, _u unlabelled; z_1 z_2 embeddings of two views.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.errors import ConfigError
from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.embedding import PixelHead
from semivox.nets.net import Decoded, Net
from semivox.ops.contrast import effective_rank, mean_variance, relational_distillation
from semivox.ops.dice import dice_ce
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.perturb import intensity
from semivox.ops.queue import Queue, gathered
from semivox.ops.ramps import sigmoid_rampup, warmup_decay
from semivox.ops.sampling import Pool, Scheme, grid_cells, grid_or_default
from semivox.ops.slices import listed, strided
from semivox.ops.views import cosine_distance, nt_xent, queue_contrast, vicreg_terms
from semivox.types import Batch, Progress, Stage, Terms

WEIGHTS = {"simclr": 0.1, "moco": 0.05, "knn_moco": 0.03, "byol": 0.2, "isd": 0.05, "vicreg": 0.1}
"""Each framework's final weight, chosen by short runs on slices of ACDC: once ramped up, its gradient holds about a
twentieth (vicreg) to a quarter (simclr) of both terms' norms at the student."""

TAUGHT = ("moco", "knn_moco", "byol", "isd")
QUEUED = ("moco", "knn_moco", "isd")
PREDICTED = ("byol", "isd")


class Config(MethodConfig):
    """The framework, the sampler, and what they share."""

    framework: Literal["simclr", "moco", "knn_moco", "byol", "isd", "vicreg"] = "simclr"
    """what is asked of two views of the drawn pixels."""
    sampler: Scheme = "sg"
    """how pixels are drawn: independently, by strata, or by strata in mirrored pairs."""
    grid: tuple[int, ...] | None = None
    """cells of the sampling grid along each axis of an image; None: 4 x 4, and 2 across the slices of a volume."""
    count: int = Field(256, ge=1)
    """pixels that are drawn of every class in a step; simclr compares those of all classes with each other."""
    weight: float | None = Field(None, ge=0)
    """final weight of the framework's loss; None: the framework's own, simclr and vicreg .1, moco and isd .05, knn_moco
    .03, byol .2."""
    tau: float = Field(0.1, gt=0)
    """temperature of simclr, moco and knn_moco, and of isd's student."""
    tau_teacher: float = Field(0.01, gt=0)
    """temperature of isd's teacher."""
    queue: int = Field(4096, ge=1)
    """earlier pixels that moco, knn_moco and isd remember, of all classes together."""
    neighbours: int = Field(20, ge=1)
    """k of knn_moco: remembered pixels that are further positives."""
    width: int | None = Field(None, ge=1)
    """length of a pixel's embedding; None: 128 in 2D, 64 in 3D."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """decay of the teacher and its head."""


class Views(NamedTuple):
    """Two views of some images on the grid of the head: maps (B, H, *grid), and class ids (B, *grid), K for none."""

    first: Tensor
    second: Tensor
    class_ids: Tensor


class PixelContrast(Method):
    """L = L_sup(x_l, y_l) + w(t) * L_framework(z_1, z_2), over pixels drawn from every class."""

    config: Config
    family, paper = "contrast", "You et al., NeurIPS 2023"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        if config.framework == "knn_moco" and config.neighbours > config.queue:
            raise ConfigError(
                f"method.neighbours = {config.neighbours}, but method.queue = {config.queue} pixels are remembered: "
                "take fewer neighbours or a longer queue"
            )
        self.grid = grid_or_default(config.grid, make_net.dims, make_net.slice_axis)
        self.student = make_net()
        with make_net.seeded("head"):
            self.head = PixelHead(self.student, config.width or (128 if make_net.dims == 2 else 64))
        self.teacher: Net | None = None
        self.teacher_head: PixelHead | None = None
        self.queue: Queue | None = None
        if config.framework in TAUGHT:
            self.teacher, self.teacher_head = make_teacher(self.student), make_teacher(self.head)
        if config.framework in QUEUED:
            self.queue = Queue(config.queue, self.head.width)
        self._newest: tuple[Tensor, Tensor] | None = None

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the student and its head learn."""
        return (Stage("train", trains=("student", "head")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and the framework's."""
        config, view = self.config, self.augment(batch, progress)
        decoded = self.student.decode(self.student.encode(view.image_l))
        terms = Terms({"supervised": dice_ce(decoded.logits, view.label_l, view.valid_l)})
        views = [self._views(decoded, view.image_l, view.valid_l, view.label_l, progress.generator("second_l"))]
        if view.image_u is not None and view.valid_u is not None:
            image = intensity(view.image_u, progress.generator("first_u"), "weak", valid=view.valid_u)
            decoded = self.student.decode(self.student.encode(image))
            views.append(self._views(decoded, view.image_u, view.valid_u, None, progress.generator("second_u")))
        maps = Views(*(torch.cat(parts) for parts in zip(*views, strict=True)))
        cells = grid_cells(len(maps.class_ids), maps.class_ids.shape[1:], self.grid, device=maps.class_ids.device)
        pool = Pool(maps.class_ids.flatten(), cells.flatten(), classes=self.student.classes)
        pixels, found = pool.draw(config.count, scheme=config.sampler, generator=progress.generator("pixels"))
        z_1 = self.head.embed(listed(maps.first)[pixels], predict=True)  # (K, count, D)
        z_2 = self._embed_second(listed(maps.second)[pixels])
        weight = WEIGHTS[config.framework] if config.weight is None else config.weight
        # Draw by draw, all classes in turn: where the queue is short, each class keeps its part of it.
        rows = (x.transpose(0, 1).flatten(0, 1) for x in (z_1, z_2, pixels, found[:, None].expand_as(pixels)))
        ramp = sigmoid_rampup(progress.fraction)
        terms.losses["contrast"] = weight * ramp * self._framework_loss(*rows)
        if progress.logged:
            terms.shown["contrast_ramp"] = torch.tensor(ramp)
            self._show(terms, z_1, found)
        return terms

    def _views(
        self, first: Decoded, image: Tensor, valid: Tensor, label: Tensor | None, generator: torch.Generator
    ) -> Views:
        """Return the maps of the first view, which the student has decoded, and of another view of the images."""
        net, head = self.teacher or self.student, self.teacher_head or self.head
        with torch.set_grad_enabled(self.teacher is None and torch.is_grad_enabled()):
            decoded = net.decode(net.encode(intensity(image, generator, "weak", valid=valid)))
            second = head(decoded.features)
        y = decoded.logits.argmax(1) if label is None else label
        class_ids = y.where(valid, self.student.classes)
        return Views(self.head(first.features), second, strided(class_ids, self.head.strides))

    def _embed_second(self, pixels: Tensor) -> Tensor:
        """Return embeddings (K, count, D) of the second view's pixels (K, count, H), the teacher's without gradient."""
        if self.teacher_head is None:
            return self.head.embed(pixels, predict=True)
        with torch.no_grad():
            return self.teacher_head.embed(pixels, predict=self.config.framework not in PREDICTED)

    def _framework_loss(self, z_1: Tensor, z_2: Tensor, pixels: Tensor, valid: Tensor) -> Tensor:
        """Return the framework's loss of rows (N, D), which are `pixels` (N,); keep the keys for the queue."""
        config, queue = self.config, self.queue
        if config.framework == "simclr":
            return nt_xent(z_1, z_2, pixels, valid, tau=config.tau)
        if config.framework == "vicreg":
            invariance, variance, covariance = vicreg_terms(z_1, z_2, valid)
            return invariance + variance + covariance / 25
        if queue is None:
            return cosine_distance(z_1, z_2, valid)
        self._newest = z_2, valid
        if config.framework == "isd":
            taus = {"tau_s": config.tau, "tau_t": config.tau_teacher}
            return relational_distillation(z_1, z_2, queue.rows, queue.filled, valid, **taus)
        neighbours = config.neighbours if config.framework == "knn_moco" else 0
        return queue_contrast(z_1, z_2, queue.rows, queue.filled, valid, tau=config.tau, neighbours=neighbours)

    def _show(self, terms: Terms, z: Tensor, found: Tensor) -> None:
        """Add the spread of each class's drawn embeddings (K, count, D), and how full the queue is."""
        for k, rows in enumerate(z):
            drawn = rows if found[k] else rows[:0]
            terms.shown |= {f"class{k}_variance": mean_variance(drawn), f"class{k}_rank": effective_rank(drawn)}
        if self.queue is not None:
            terms.shown["queue_fill"] = self.queue.filled.float().mean()

    def after_step(self, progress: Progress) -> None:
        """Move the teacher and remember the step's keys."""
        if self.teacher is None or self.teacher_head is None:
            return
        decay = warmup_decay(progress.step, self.config.ema_decay)
        ema_update(self.teacher, self.student, decay)
        ema_update(self.teacher_head, self.head, decay)
        if self.queue is not None and self._newest is not None:
            self.queue.push(*(gathered(x) for x in self._newest))
        self._newest = None

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher and its head, where there are any."""
        return (part for part in (self.teacher, self.teacher_head) if part is not None)

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
