"""The fields of MONA, ARCO and ACTION: as their papers print, and as their released code does where they are silent.

Where the released behaviour keeps a term from working, the default is the mended one, and "released" brings it back.
"""

from typing import Literal

from pydantic import Field

from semivox.methods.base import MethodConfig
from semivox.ops.sampling import Scheme


class AnatomicalConfig(MethodConfig):
    """The fields of all three; the defaults are the papers', and the released code's where they are silent."""

    sampler: Scheme
    """how anchors, keys and negatives are drawn: independently, by strata, or by strata in mirrored pairs."""
    grid: tuple[int, ...] | None = None
    """cells of the sampling grid along each axis of an image; None: 4 x 4, and 2 across the slices of a volume."""
    mirror: Literal["rank", "space"] = "rank"
    """what the pairs of "sag" are opposite in: the list of their stratum, or the cell, as the paper draws it."""
    negatives: Literal["paper", "released"] = "paper"
    """a class's negatives: the features of all other classes, or what the released code lets into its bank."""
    negative_source: Literal["bank", "batch"] = "bank"
    """negatives of earlier steps, every other class alike, or uniformly from this step's pixels of other classes; with
    `negatives = "released"` always of earlier steps."""
    anchors: int = Field(256, ge=1)
    """pixels of every class that are asked for in a step; as many are remembered."""
    keys: int = Field(512, ge=1)
    """negatives of each anchor."""
    bank: int = Field(1024, ge=1)
    """pixels of every class that are remembered."""
    memory: int = Field(36, ge=1)
    """images that are remembered."""
    neighbours: int = Field(5, ge=0)
    """remembered images that each image moves to; with 0 there is no such loss."""
    tau: float = Field(0.5, gt=0)
    """temperature of the contrast."""
    width: int | None = Field(None, ge=1)
    """length of a pixel's embedding; None: 128 in 2D, 64 in 3D."""
    latent: int | None = Field(None, ge=1)
    """length of an image's embedding in the first stage; None: 512 in 2D, 128 in 3D."""
    alpha: float = Field(0.2, ge=0, le=1)
    """part of the unlabelled pixels, those of lowest entropy, that may be anchors; it falls along the stage."""
    alpha_floor: float = Field(0.05, ge=0, le=1)
    """what alpha does not fall below; 0 as released."""
    anchors_from: Literal["classes", "released"] = "classes"
    """whether pixels compete for that part within their pseudo class, or, as released, all of them together: background
    then wins every place, and no unlabelled foreground is ever an anchor."""
    anchor_above: float = Field(0.3, ge=0, le=1)
    """the teacher's probability of its class above which a pixel may be an anchor."""
    anchor_below: float = Field(1.0, ge=0, le=1)
    """and up to which: below 1 only hard pixels are anchors (.97 in ReCo's protocols)."""
    confidence: float = Field(0.9, ge=0, le=1)
    """the teacher's probability from which a pseudo label counts as sure; .97 as released."""
    pseudo: Literal["voxels", "released"] = "voxels"
    """what pseudo labels train: cross-entropy and Dice on the voxels that are sure, or cross-entropy on all voxels of
    an image, weighed by the sure part of it, which is mostly the background's."""
    teacher_view: Literal["clean", "released"] = "clean"
    """whether the teacher sees unlabelled crops with their own intensities, or the student's view of them."""
    mix: Literal["none", "box", "class"] = "box"
    """unlabelled images get parts of each other: rectangles (CutMix), or classes (ClassMix)."""
    weight_global: float = Field(1.0, ge=0)
    """first stage: on the relations of images."""
    weight_local: float = Field(0.1, ge=0)
    """first stage: on the relations of windows; 1 as printed, where its gradient, on class logits, is three times the
    supervised loss's."""
    tau_student: float = Field(0.1, gt=0)
    """first stage: temperature of the student's relations."""
    tau_teacher: float = Field(0.01, gt=0)
    """first stage: temperature of the teacher's."""
    weight_contrast: float = Field(0.1, ge=0)
    """lambda_1, on the contrast of pixels; .01 as printed, where its gradient is a thousandth of the supervised
    loss's."""
    weight_unsupervised: float = Field(1.0, ge=0)
    """lambda_2, on the cross-entropy against pseudo labels."""
    weight_neighbours: float = Field(1.0, ge=0)
    """lambda_3, on the distance to the nearest neighbours."""
    neighbours_head: Literal["own", "released"] = "own"
    """whether images are embedded by a projector of their own. With that of pixels, as released, the nearness of
    images, which knows no negatives, pulls the embeddings of all classes together."""
    ema_decay: float | None = Field(None, ge=0, lt=1)
    """decay of the teacher and its heads; None: 1 - 10 / steps of the stage, at most .999; .99 as released."""
    schedule_over: Literal["stage", "run"] = "run"
    """whether learning rate, moments and teacher start anew with every stage, as released, or go on along the run."""
    teacher_mode: Literal["train", "eval"] = "eval"
    """whether the teacher's dropout is on, as released."""
