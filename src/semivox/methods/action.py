"""ACTION: images are told apart softly by their likeness to others, then hard pixels find the prototype of their class.

Paper:  You, Dai, Min, Staib & Duncan, IPMI 2023, arXiv:2206.02307. Read as an abstract and an introduction: losses and
        numbers are those of the released code.
Code:   https://github.com/charlesyou999648/ACTION/tree/4cc5be8 (read to learn what it does; none is used).
Volume: slices or volumes alike; a cell of the sampling grid is a box of a volume.
Stages: as ARCO's, "pretrain" and "finetune".
Differs from the paper:
  ACTION is what MONA and ARCO grew from: what ARCO's card says of relations, embeddings, pseudo labels, teacher,
  stages and supervised loss holds here, and `weight_contrast` is ten times the published as there. Pre-training is one
  stage of both relations; released, a first one of whole images and a second one of windows too.
  Hard pixels. Queries are pixels whose class has a probability up to .97 (`anchor_below`), the teacher's; released, the
  student's. Which unlabelled ones may ask is ARCO's rule (`alpha`); released, all whose pseudo label has .7.
  Keys are this step's pixels of the other classes, every pixel alike, and prototypes the teacher's means; released, the
  student's, and a class is drawn the more often the liker its prototype is. No image moves to neighbours.
  Views. The strong intensities of `semivox.ops.perturb` for the student, in place of colour jitter and blur, behind
  rectangles of other images (`mix`), as in the released script; its parser's default are classes.
  The student predicts.
Shapes: as in ARCO.
"""

from typing import Literal

from pydantic import Field

from semivox.methods.base_anatomical import AnatomicalConfig, AnatomicalMethod
from semivox.ops.perturb import intensity
from semivox.types import Batch, Progress, Terms


class Config(AnatomicalConfig):
    """ACTION's fields; the defaults are the released code's where ARCO's are not said to mend it."""

    sampler: Literal["naive", "sg", "sag"] = "naive"
    """how anchors, keys and negatives are drawn: independently, by strata, or by strata in mirrored pairs."""
    negative_source: Literal["bank", "batch"] = "batch"
    """negatives of earlier steps, or uniformly from this step's pixels of other classes."""
    anchor_below: float = Field(0.97, ge=0, le=1)
    """the teacher's probability of its class up to which a pixel is hard and may be an anchor."""
    neighbours: int = Field(0, ge=0)
    """remembered images that each image moves to; with 0 there is no such loss."""


class ACTION(AnatomicalMethod):
    """L_pre = L_sup + L_global + L_local, then L = L_sup + lambda_1 L_contrast + lambda_2 L_unsup."""

    config: Config
    family, paper = "contrast", "You et al., IPMI 2023"

    def _finetune(self, view: Batch, progress: Progress) -> Terms:
        terms, labelled = self._labelled(view, progress)
        parts = [labelled]
        if view.image_u is not None and view.valid_u is not None:
            mixed = self._mixed(view, view.image_u, view.valid_u, progress)
            shaded = intensity(mixed.image, progress.generator("strong"), "strong", valid=mixed.valid)
            unlabelled = self._part(shaded, mixed.q, mixed.valid, progress, labelled=False, taught=mixed.taught)
            parts.append(unlabelled)
            error = self._pseudo_error(unlabelled.student.logits, mixed)
            terms.losses["unsupervised"] = self.config.weight_unsupervised * error
        self._contrast(terms, parts, progress)
        return terms
