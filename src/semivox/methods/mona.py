"""MONA: pixels find their class's prototype, predictions move with the image, images move to their neighbours.

Paper:  You, Dai, Liu, Min, Dvornek, Li, Clifton, Staib, Duncan, TPAMI 2024, arXiv:2209.13476. Read as an abstract only:
the losses and weights are those of the released code, which ARCO's paper confirms where it repeats them.
Code:   https://github.com/charlesyou999648/MONA/tree/3c70567 (read to learn what the papers leave out; none is used).
Volume: slices or volumes alike. In 3D the released code computes the equivariance and drops it; here it counts.
Stages: as ARCO's, "pretrain" and "finetune".
Differs from the paper:
  All that ARCO's card says of sampling, negatives, neighbours, relations, embeddings, teacher and supervised loss.
  Equivariance. The geometry is semivox's "elastic": rotations to 15 degrees, scales, shifts, and smooth displacements
  that never fold, drawn for each image; released: rotations to 60 degrees, mirrors and thin-plate splines drawn for
  the batch. Both logits and the mask are moved linearly, and what leaves the image does not count.
  Photometry. The strong intensities of `semivox.ops.perturb` in place of colour jitter, blur and a displacement that
  moved images without their labels.
  The student predicts.
Shapes: as in ARCO; g a random geometry.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from semivox.methods.base_anatomical import AnatomicalConfig, AnatomicalMethod
from semivox.ops.dice import masked_kl
from semivox.ops.perturb import geometry, intensity
from semivox.types import Batch, Progress, Terms


class Config(AnatomicalConfig):
    """MONA's fields; the defaults are the released code's."""

    sampler: Literal["naive", "sg", "sag"] = "naive"
    """how anchors, keys and negatives are drawn: independently, by strata, or by strata in mirrored pairs."""
    weight_equivariance: float = Field(1.0, ge=0)
    """on the divergence between the moved prediction and the prediction of the moved image."""
    equivariance_confidence: float = Field(0.7, ge=0, le=1)
    """the teacher's probability from which a foreground pixel takes part in the equivariance."""


class MONA(AnatomicalMethod):
    """L_pre as ARCO's, then L = L_sup + lambda_1 L_contrast + lambda_2 L_eqv + lambda_3 L_unsup + lambda_4 L_nn."""

    config: Config
    family, paper = "contrast", "You et al., TPAMI 2024"

    def _finetune(self, view: Batch, progress: Progress) -> Terms:
        terms, labelled = self._labelled(view, progress)
        parts = [labelled]
        if view.image_u is not None and view.valid_u is not None:
            mixed = self._mixed(view, view.image_u, view.valid_u, progress)
            first, second = (
                intensity(mixed.image, progress.generator(slot), "strong", valid=mixed.valid)
                for slot in ("first", "second")
            )
            taught = mixed.taught if self.config.teacher_view == "clean" else first
            unlabelled = self._part(first, mixed.q, mixed.valid, progress, labelled=False, taught=taught)
            parts.append(unlabelled)
            error = self._pseudo_error(unlabelled.student.logits, mixed)
            terms.losses["unsupervised"] = self.config.weight_unsupervised * error
            moving = mixed.valid & (mixed.q != 0) & (mixed.confidence >= self.config.equivariance_confidence)
            divergence = self._equivariance(second, unlabelled.student.logits.detach(), moving, view, progress)
            terms.losses["equivariance"] = self.config.weight_equivariance * divergence
        self._contrast(terms, parts, progress)
        return terms

    def _equivariance(self, image: Tensor, logits: Tensor, mask: Tensor, view: Batch, progress: Progress) -> Tensor:
        """Return KL(softmax(g(logits)) || student(g(image))) where g(mask) holds."""
        g = geometry(
            image.shape,
            progress.generator("equivariance"),
            "elastic",
            spacing=view.spacing,
            slice_axis=view.slice_axis if image.ndim == 5 else None,
        )
        target = g(logits.float()).softmax(1)
        return masked_kl(target, self.student(g(image)), g(mask) & g.inside)
