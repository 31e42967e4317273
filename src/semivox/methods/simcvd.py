"""SimCVD: slices of boundary-aware maps agree under dropout, bottleneck vectors find their teacher's.

Paper:  You, Zhou, Zhao, Staib & Duncan, IEEE TMI 41(9), 2022, arXiv:2108.06227. No code of the authors is public.
Volume: a volume is a stack of slices across `Batch.slice_axis`; in 2D every image is a slice, and a batch of fewer than
two slices has no contrast (take 8 unlabelled images or more).
Differs from the paper:
  Views. The paper crops student's and teacher's view apart, yet Eqs. 2, 4 and 5 compare voxel by voxel. Here both share
  one random geometry and intensity; they differ by input noise, the networks' dropout and the heads' two AlphaDropout
  masks, which are always on, the teacher's too. The maps of Eq. 2 come from the noisy forward that Eq. 5 needs anyway;
  `noise = 0` gives the paper's views by dropout alone (`simcvd-la2018-dropout`).
  Targets. What the student is to find, in Eqs. 4 and 5, the teacher reads off the clean crop, with its own intensities
  and no noise; the contrast keeps two noisy views. In the paper one noisy view serves both: `teacher_view = "paper"`.
  Slices. The paper adds each map to the crop before slices are told apart; both views then share the crop, which solves
  the contrast: with another volume's map the loss is the same. `slices = "maps"` compares maps alone.
  Maps. The paper computes distances on the crop; here they are measured in mm once per volume, so a boundary just
  outside the crop counts, and are divided by the crop's maxima.
  Classes. One signed distance map and one contrast for each foreground class, by shared heads, averaged. Several image
  channels: their mean is added to the map.
  Left open by the paper, chosen here: the segmentation loss (CE + Dice) / 2; the widths of the head, its ReLU and unit
  length, the teacher's head as a moving average; the contrast over all slices of the batch; Eq. 4 averaged over voxels
  (its printed sum would swamp the rest) and read before the bottleneck's dropout; Eq. 5 on probabilities and distance
  maps; the ramp on all three unsupervised terms. Each is a field below, or is written here.
  Short runs: until step 999 the decay .999 with its warm start is the plain average of all past students. Below the
  paper's 6,000 steps the decay is therefore 1 - 6 / steps (.994 at 1,000), of the same mean age; `ema_decay` overrides.
  `teacher_mode = "train"` keeps the dropout of the teacher's net on (and batch norm on its own batch); "eval" switches
  both off whatever mode the method is in. The student predicts; teacher and heads are not used then.
Shapes: M unlabelled volumes, C channels, K classes, F = K - 1 foreground classes, X Y Z voxels, N slices or positions,
A B the two axes of a slice; _l labelled, _u unlabelled; _s student, _t teacher; p probabilities; h slice vectors.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.heads import conv_head, mlp
from semivox.nets.net import Net
from semivox.ops.boundary import label_distance
from semivox.ops.contrast import effective_rank, info_nce, mean_variance, pairwise_distillation
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.fields import drawn_places
from semivox.ops.freeze import unused
from semivox.ops.perturb import inpaint, local_shuffle, nonlinear_intensity, outpaint, with_noise
from semivox.ops.ramps import run_decay, sigmoid_rampup, warmup_decay
from semivox.ops.slices import coarse_mask, pool_slices, stack_slices, valid_slices
from semivox.types import Batch, Progress, Stage, Terms

EXTRAS: dict[str, Callable[..., Tensor]] = {
    "local_shuffle": local_shuffle,
    "nonlinear": nonlinear_intensity,
    "inpaint": inpaint,
    "outpaint": outpaint,
}


class Config(MethodConfig):
    """SimCVD's fields. Defaults of those in this class are the paper's (save `teacher_view`), ours where it is silent.

    Augmentation (small affine, weak intensity), Nesterov's momentum and instance norm are semivox's own unless set: the
    config `simcvd-la2018` pins turns, no intensity, plain momentum and batch norm.
    """

    weight_decay: float = Field(5e-4, ge=0)
    """L2 penalty on all weights; 5e-4 as in the paper."""
    schedule: Literal["poly", "drop", "constant"] = "drop"
    """how the learning rate falls; the paper divides it by ten at half of its 6,000 steps."""
    weight_sdm: float = Field(0.1, ge=0)
    """alpha, on the error of labelled signed distance maps; 0 is the ablation without L_sdm."""
    weight_contrast: float = Field(0.5, ge=0)
    """lambda, on the contrast of slices; 0 is the ablation without it."""
    weight_distillation: float = Field(0.1, ge=0)
    """beta, on the pair-wise distillation at the bottleneck; 0 is the ablation without it."""
    weight_consistency: float = Field(0.1, ge=0)
    """gamma, on the squared difference of student and teacher."""
    tau: float = Field(0.5, gt=0)
    """temperature of the contrast."""
    ramp: Literal["all", "consistency"] = "all"
    """what exp(-5 (1 - fraction)^2) multiplies: all three unsupervised weights (our reading), or gamma alone."""
    ema_decay: float | None = Field(None, ge=0, lt=1)
    """decay of the teacher; None: the paper's .999, or 1 - 6 / steps in runs shorter than its 6,000 steps."""
    warm_start: bool = True
    """whether the decay starts as min(1 - 1 / (step + 1), ema_decay)."""
    teacher_mode: Literal["train", "eval"] = "train"
    """whether the dropout of the teacher's net is on; its head's AlphaDropout always is."""
    teacher_view: Literal["clean", "paper"] = "clean"
    """whether the teacher sees unlabelled crops with their own intensities where it sets a target (distillation and
    consistency), or its noisy view for the contrast there too, which saves a forward pass."""
    noise: float = Field(0.1, ge=0)
    """standard deviation of each view's input noise, cut at twice as much; 0 = views by dropout alone."""
    extra: Literal["none", "local_shuffle", "nonlinear", "inpaint", "outpaint"] = "none"
    """a further augmentation of the student's unlabelled input, as in the paper's ablation."""
    sdm: bool = True
    """whether there is a signed distance branch; without it the contrast reads the foreground probability instead."""
    sdm_norm: Literal["crop", "volume"] = "crop"
    """whose largest distance is 1: the crop's, as in the paper, or the whole volume's."""
    sdm_empty: Literal[0, 1] = 0
    """the map of a crop without foreground: 0, as in published recipes, or 1, as the sign convention asks for."""
    consistency_sdm: bool = True
    """whether the consistency compares signed distance maps too."""
    slices: Literal["paper", "maps"] = "paper"
    """what the contrast of slices reads: the maps on the crop, as in the paper, where the crop, the same in both
    views, tells every slice from the others and the maps learn little; or the maps alone, whose contrast has many times
    the gradient: lower `weight_contrast` with it."""
    alpha_dropout: float = Field(0.1, ge=0, lt=1)
    """probability of the heads' AlphaDropout; the paper tries 0 to .5."""
    pool: int | None = Field(None, ge=1)
    """side to which slices are pooled: the paper's is 128 for slices of 112 voxels; None: in the same proportion to
    the patch's in-plane sides, 128 where no patch is known."""
    pool_kind: Literal["avg", "max"] = "avg"
    """average or maximum of each cell, as in adaptive pooling; "max" has no deterministic gradient on a GPU, so torch
    refuses it there with `determinism = "strict"`."""
    head_sizes: tuple[int, ...] = (512, 256, 128)
    """widths of the head's layers; the last is the length of a slice's vector."""
    unit_length: bool = True
    """whether slice vectors are scaled to length 1, so that the contrast reads cosines."""
    contrast_slices: int | None = Field(None, ge=2)
    """B, how many slices of the batch the contrast draws; None = all."""
    reduction: Literal["mean", "sum"] = "mean"
    """over the positions of the distillation; "sum" is Eq. 4 as printed."""


class Outputs(NamedTuple):
    """What one network gives for images: logits (M, K, X, Y, Z), map (M, F, X, Y, Z), bottleneck (M, D, X', Y', Z')."""

    logits: Tensor
    map: Tensor
    bottleneck: Tensor


class SliceHead(nn.Module):
    """AlphaDropout, adaptive pooling and a multilayer perceptron: slices (F, N, A, B) -> vectors (F, N, D)."""

    def __init__(self, pool: tuple[int, int], config: Config) -> None:
        super().__init__()
        self.pool, self.config = pool, config
        self.layers = mlp(pool[0] * pool[1], *config.head_sizes)

    def forward(self, slices: Tensor) -> Tensor:
        """Return the vectors; the mask is drawn anew at every call, in every mode: it is what makes a view."""
        slices = F.alpha_dropout(slices, self.config.alpha_dropout, training=True)
        pooling = pool_slices if self.config.pool_kind == "avg" else F.adaptive_max_pool2d
        h = self.layers(pooling(slices, self.pool).flatten(-2)).float()
        return F.normalize(h, dim=-1) if self.config.unit_length else h


class SimCVD(Method):
    """L = L_seg + alpha L_sdm + ramp (lambda L_contrast + beta L_pd + gamma L_con)."""

    needs = frozenset({"distances"})
    config: Config
    family, paper = "contrast", "You et al., IEEE TMI 2022"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        foreground = make_net.classes - 1
        self.head_sdm: nn.Module | None = None
        if config.sdm:
            with make_net.seeded("head_sdm"):
                self.head_sdm = conv_head(make_net.dims, self.student.decoded_widths[-1], foreground)
        with make_net.seeded("head_slices"):
            self.head_slices = SliceHead(_pool(make_net, config), config)
        self.teacher, self.teacher_slices = make_teacher(self.student), make_teacher(self.head_slices)
        self.teacher_sdm = None if self.head_sdm is None else make_teacher(self.head_sdm)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the student and its heads learn."""
        branch = ("head_sdm",) if getattr(config, "sdm", True) else ()
        return (Stage("train", trains=("student", *branch, "head_slices")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised terms and, where there are unlabelled crops, the three unsupervised ones."""
        view = self.augment(batch, progress)
        image_u, valid_u = view.image_u, view.valid_u
        if image_u is None or valid_u is None:
            terms = self._supervised(view)
            # Nothing else reaches this head.
            terms.losses["supervised"] = terms.losses["supervised"] + unused(self.head_slices)
            return terms
        terms = self._supervised(view)
        self._unsupervised(terms, view, image_u, valid_u, progress)
        return terms

    def _supervised(self, view: Batch) -> Terms:
        out_l = self._outputs(self.student, self.head_sdm, view.image_l)
        terms = Terms({"supervised": dice_ce(out_l.logits, view.label_l, view.valid_l)})
        if self.config.sdm:
            norm, empty = self.config.sdm_norm, self.config.sdm_empty
            target = label_distance(view.targets_l, view.label_l, view.valid_l, norm=norm, empty=empty)
            error = masked_mse(out_l.map, target, view.valid_l)
            terms.losses["sdm"] = self.config.weight_sdm * error
        return terms

    def _unsupervised(self, terms: Terms, view: Batch, image: Tensor, valid: Tensor, progress: Progress) -> None:
        config, slice_axis = self.config, view.slice_axis
        image_s, image_t = self._views(image, valid, progress)
        s = self._outputs(self.student, self.head_sdm, image_s)
        with torch.no_grad():
            t = self._outputs(self.teacher, self.teacher_sdm, image_t)
            target = t
            if config.teacher_view == "clean" and view.clean_u is not None:
                target = self._outputs(self.teacher, self.teacher_sdm, view.clean_u)
        crop, mask = image.mean(1, keepdim=True) * (config.slices == "paper"), valid.unsqueeze(1)
        rows, there = self._slices(valid, slice_axis, progress)
        # The boundary-aware maps Q^ba = X + Q^sdm (or Q^sdm alone), zero in padding, as slices (F, N, A, B).
        h_s = self.head_slices(stack_slices((crop + s.map) * mask, slice_axis).index_select(1, rows))
        with torch.no_grad():
            h_t = self.teacher_slices(stack_slices((crop + t.map) * mask, slice_axis).index_select(1, rows))
        v_s, v_t = s.bottleneck.flatten(2).mT, target.bottleneck.flatten(2).mT  # (M, N, D)
        positions = coarse_mask(valid, s.bottleneck.shape[2:]).flatten(1)
        difference = masked_mse(s.logits.softmax(1), target.logits.softmax(1), valid)
        if config.sdm and config.consistency_sdm:
            difference = difference + masked_mse(s.map, target.map, valid)
        ramp = sigmoid_rampup(progress.fraction)
        others = ramp if config.ramp == "all" else 1.0
        distillation = pairwise_distillation(v_s, v_t, positions, reduction=config.reduction)  # Eq. 4
        contrast = info_nce(h_t, h_s, config.tau, there)  # Eqs. 2 and 3
        terms.losses["contrast"] = others * config.weight_contrast * contrast
        terms.losses["distillation"] = others * config.weight_distillation * distillation
        terms.losses["consistency"] = ramp * config.weight_consistency * difference  # Eq. 5
        if progress.logged:
            ramps = {"contrast": others, "distillation": others, "consistency": ramp}
            terms.shown |= {f"{name}_ramp": torch.tensor(value) for name, value in ramps.items()}
            for name, vectors in (("slice", h_s[:, there].flatten(0, 1)), ("bottleneck", v_s[positions])):
                terms.shown |= {f"{name}_variance": mean_variance(vectors), f"{name}_rank": effective_rank(vectors)}

    def _outputs(self, net: Net, head_sdm: nn.Module | None, image: Tensor) -> Outputs:
        features = net.encode(image)
        decoded = net.decode(features)
        # Both heads read the last feature after dropout, the distillation the bottleneck before it.
        if head_sdm is None:
            regressed = decoded.logits.float().softmax(1)[:, 1:]
        else:
            regressed = head_sdm(decoded.features[-1]).float().tanh()
        return Outputs(decoded.logits, regressed, features["bottleneck"])

    def _views(self, image: Tensor, valid: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """Return student's and teacher's unlabelled input: one crop, two noises."""
        noise, image_s = self.config.noise, image
        if self.config.extra != "none":
            image_s = EXTRAS[self.config.extra](image, progress.generator("extra"), valid=valid)
        image_s = with_noise(image_s, scale=noise, clip=2 * noise, generator=progress.generator("noise_student"))
        return image_s, with_noise(image, scale=noise, clip=2 * noise, generator=progress.generator("noise_teacher"))

    def _slices(self, valid: Tensor, slice_axis: int, progress: Progress) -> tuple[Tensor, Tensor]:
        """Return the slices (N,) that the contrast compares, all or a draw of them, and which hold a valid voxel."""
        there = valid_slices(valid, slice_axis)
        if self.config.contrast_slices is None:
            return torch.arange(len(there), device=there.device), there
        rows = drawn_places(there, self.config.contrast_slices, progress.generator("slices"))
        return rows, there[rows]

    def after_step(self, progress: Progress) -> None:
        """Move the teacher and its heads."""
        decay = self.config.ema_decay
        if decay is None:
            decay = run_decay(progress.steps, 6)
        decay = warmup_decay(progress.step, decay) if self.config.warm_start else decay
        ema_update(self.teacher, self.student, decay)
        ema_update(self.teacher_slices, self.head_slices, decay)
        if self.head_sdm is not None and self.teacher_sdm is not None:
            ema_update(self.teacher_sdm, self.head_sdm, decay)

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher where `teacher_mode` says so."""
        return (self.teacher,) if self.config.teacher_mode == "eval" else ()

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)


def _pool(make_net: MakeNet, config: Config) -> tuple[int, int]:
    """Return the size that slices are pooled to."""
    if config.pool is not None or make_net.patch is None:
        side = config.pool or 128
        return side, side
    plane = [size for axis, size in enumerate(make_net.patch) if make_net.dims == 2 or axis != make_net.slice_axis]
    return round(128 * plane[0] / 112), round(128 * plane[1] / 112)
