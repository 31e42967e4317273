"""ARCO: pixels find the prototype of their class among negatives that are drawn with less variance.

Paper:  You, Dai, Min, Liu, Zhou, Zhang, Staib, Duncan, NeurIPS 2023, arXiv:2302.01735.
Code:   https://github.com/charlesyou999648/ARCO/tree/03f6a89 (read to learn what the paper leaves out; none is used).
Volume: slices or volumes alike; a cell of the sampling grid is a box of a volume.
Stages: "pretrain", relations of images to a memory of others beside the supervised loss, .3 of the run's `steps`; then
"finetune".
Differs from the paper:
  Mended. As printed and released, the contrast has a thousandth of the supervised gradient and trains nothing:
  `weight_contrast` is ten times as large, and images have a projector of their own (`neighbours_head`); unlabelled
  anchors are the surest of each pseudo class, not of all pixels (`anchors_from`, `alpha_floor`); pseudo labels count by
  the voxel, with Dice beside cross-entropy (`pseudo`, `confidence`); the teacher sees clean crops (`teacher_view`), its
  decay goes by the stage's length (`ema_decay`); schedule, moments and teacher go on over the stages' border
  (`schedule_over`); relations of windows weigh a tenth (`weight_local`). "released" brings each back.
  Sampling. Exactly unbiased for every class size (`semivox.ops.sampling`); pairs of "sag" lie opposite in the list of
  their stratum. `mirror = "space"` mirrors them in their cell as the paper draws it, save where that pixel is of
  another class; what is drawn from banks, which are no image, still pairs by list.
  Negatives. As in the paper, features of the other classes; in the released code a class's bank holds what looks like
  another class and stays empty where there are two classes (`negatives = "released"`, for comparison: its window of
  ranks 3 to 19, but banks of our size).
  Neighbours. The teacher chooses them and the student moves to them; released, that loss has no gradient.
  Relations. KL from the teacher's to the student's distribution, as released; the paper prints the other direction. An
  image is compared window by window with the same window of earlier images. Embeddings of whole images are seen from
  the mean of the remembered ones, since with instance norm they would all point one way. Both views share one geometry.
  Embeddings. A pyramid of all decoder features at a quarter of the resolution, with a norm and ReLUs where the released
  heads are linear; 128 channels in 2D and 64 in 3D, against 512 printed and 496 and 16 released. Only drawn pixels
  are embedded; the predictor follows the pooling where an image is embedded.
  The teacher is in evaluation mode unless `teacher_mode` says "train"; its decay starts as 1 - 1 / (step + 1). Mixing
  pastes rectangles through all slices of a volume, 10 of them in the released code. Labelled and unlabelled images
  pass in two forwards, labelled first, as released.
  The supervised loss is CE + Dice over foreground classes. The student predicts.
Shapes: B images, C channels, K classes, X Y Z voxels, N pixels of the coarser grid, D channels of an embedding; _l
labelled, _u unlabelled; _s student, _t teacher; p probabilities; q pseudo label; r embeddings of pixels, z of images.
"""

from typing import Literal

from semivox.methods.base_anatomical import AnatomicalConfig, AnatomicalMethod
from semivox.types import Batch, Progress, Terms


class Config(AnatomicalConfig):
    """ARCO's fields; the defaults are the paper's, and the released code's where the paper is silent."""

    sampler: Literal["naive", "sg", "sag"] = "sg"
    """how anchors, keys and negatives are drawn: independently, by strata, or by strata in mirrored pairs."""


class ARCO(AnatomicalMethod):
    """L_pre = L_sup + L_global + L_local, then L = L_sup + lambda_1 L_contrast + lambda_2 L_unsup + lambda_3 L_nn."""

    config: Config
    family, paper = "contrast", "You et al., NeurIPS 2023"

    def _finetune(self, view: Batch, progress: Progress) -> Terms:
        terms, labelled = self._labelled(view, progress)
        parts = [labelled]
        if view.image_u is not None and view.valid_u is not None:
            mixed = self._mixed(view, view.image_u, view.valid_u, progress)
            unlabelled = self._part(mixed.image, mixed.q, mixed.valid, progress, labelled=False, taught=mixed.taught)
            parts.append(unlabelled)
            error = self._pseudo_error(unlabelled.student.logits, mixed)
            terms.losses["unsupervised"] = self.config.weight_unsupervised * error
        self._contrast(terms, parts, progress)
        return terms
