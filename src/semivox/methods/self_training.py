"""Self-training: a net labels the unlabelled scans, and another learns anew from those labels and the true ones.

Paper:  pseudo labels are Lee's (ICML 2013 workshop); made offline, for whole scans, for a net that starts anew and sees
        shaded crops: noisy student (Xie, Luong, Hovy, Le, CVPR 2020, arXiv:1911.04252). Which scans to drop: those
        whose label changes from one net to the next, as entries of FLARE22 did (Huang et al., "Revisiting nnU-Net for
        Iterative Pseudo Labeling and Efficient Sliding Window Inference", LNCS 13816, 2022,
        doi:10.1007/978-3-031-23911-3_16) and ST++ (Yang, Zhuo, Qi, Shi, Gao, CVPR 2022, arXiv:2106.05095).
Volume: slices or volumes alike, and pictures; labels are kept by whole scans.
Stages: "supervised", labelled crops alone, whose net labels all unlabelled scans; then "generation_1" to
"generation_T", each from fresh weights. All stages take equal steps, together the run's `steps`.
Variants:
  all     every unlabelled scan counts. The default.
  stable  from generation 2 on, a scan counts if its label has changed little since the generation before.
  agree   each generation but the last is two nets, one after the other ("..._again"), that learn from the same scans
          and differ in their weights at the start and in the crops they draw; a scan counts if both label it alike.
          The later one's label is learnt.
Differs from the paper: FLARE22's entries are described, not specified: the measure of change (mean Dice over the
classes that either label has), the share that is kept and T are chosen here, and no net is larger than another. The
loss is (CE + Dice) / 2 on labelled and on pseudo-labelled crops with equal weight, in batches of both. A pseudo label
is the most probable class; its probability is not used. Learning rate and moments start anew with every stage.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; q pseudo label.
"""

from typing import Literal

from pydantic import Field

from semivox.methods.base import MethodConfig
from semivox.methods.base_offline import Offline, OfflineConfig
from semivox.types import Stage


class Config(OfflineConfig):
    """Which scans count, how often they are labelled, and what a pseudo label weighs."""

    keep: Literal["all", "stable", "agree"] = "all"
    """which unlabelled scans a generation learns from: every one, those whose label stays, or those that two nets label
    alike."""
    kept: float = Field(0.75, gt=0, lt=1)
    """share of the scans that "stable" and "agree" keep; chosen here."""
    generations: int = Field(2, ge=1)
    """T; "stable" needs 2 to drop anything."""


class SelfTraining(Offline):
    """L = L_seg(x_l, y_l) + w * L_seg(x_u, q), q the classes that the net of the generation before found in x_u."""

    config: Config
    family, paper = "pseudo labels", "Xie et al., CVPR 2020"

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return the supervised start and the generations; generation t reads the labels of the one before."""
        config = config if isinstance(config, Config) else Config()
        twins = 2 if config.keep == "agree" else 1
        share = 1 / (twins * config.generations + 1)
        stages: list[Stage] = []
        for t in range(config.generations + 1):
            name = f"generation_{t}" if t else "supervised"
            filters = t > 1 if config.keep == "stable" else t > 0 and config.keep == "agree"
            for again in range(twins if t < config.generations else 1):
                stages.append(
                    Stage(
                        name + "_again" * again,
                        share=share,
                        batch_unlabelled=None if t else 0,
                        start="fresh" if stages else "previous",
                        uses=frozenset({"labels", "unlabelled", "pseudo"} if t else {"labels"}),
                        relabel="all" if t < config.generations else None,
                        reads=twins * t or None,
                        keep=config.kept if filters else 1.0,
                    )
                )
        return tuple(stages)
