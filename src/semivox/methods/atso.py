"""ATSO: one half of the unlabelled scans trains the net that labels the other half anew, generation after generation.

Paper:  Huo, Xie, He, Yang, Zhou, Li, Tian, CVPR 2021, arXiv:2006.13461. A reconstruction: only the abstracts of both
        versions could be read. They say what is wrong with self-training, that a student which goes on from its teacher
        mimics it lazily, and the two remedies: not to go on, and to label one half by training on the other.
Volume: slices or volumes alike, and pictures; labels are kept by whole scans.
Stages: "supervised", labelled crops alone, whose net labels all unlabelled scans; then "generation_1" to
"generation_T". A generation takes half as many steps as "supervised", all together the run's `steps`.
Variants, which differ in what a generation starts from and in what it trains on and labels:
  first     from the supervised net; trains on one half, then labels the other; the halves take turns. The default.
  previous  from the generation before; else as "first". This is the abstract of the first version.
  continue  from the generation before; trains on all unlabelled scans and labels all. Usual self-training.
  restart   from the supervised net; trains on all and labels all.
"first" and "previous" never let a net label what it has just trained on. Under "previous", though, the weights met that
label a generation earlier (from generation 2 on); "first" alone forgets it. In all four, generation 1 learns labels
that its own start made.
Differs from the paper: unknown beyond its abstracts. Chosen here:
  T = 4, a generation's steps, and halves that are drawn at random once, with the run's seed.
  Labels are the most probable class, by a sliding window in evaluation mode; no filter by confidence, no largest
  component. Every voxel counts alike: the store's probabilities are not used.
  The loss is (CE + Dice) / 2 on labelled and on pseudo-labelled crops with equal weight, in batches of both; learning
  rate and moments start anew with every generation (`schedule_over` may let the rate fall along the run).
  The last generation labels nothing. Its net predicts alone: the mean of the last two, one for each half, would need a
  second net in every checkpoint.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; q pseudo label.
"""

from typing import Literal

from pydantic import Field

from semivox.methods.base import MethodConfig
from semivox.methods.base_offline import Offline, OfflineConfig
from semivox.types import Stage


class Config(OfflineConfig):
    """Who labels whom, how often, and what a pseudo label weighs."""

    variant: Literal["first", "previous", "continue", "restart"] = "first"
    """what a generation starts from, and whether the halves take turns (asynchronous: "first", "previous") or one net
    trains on all unlabelled scans and labels all (synchronous controls: "continue", "restart")."""
    generations: int = Field(4, ge=2, multiple_of=2)
    """T, even, so that both halves are trained on equally often; 4 is chosen here."""


class ATSO(Offline):
    """L = L_seg(x_l, y_l) + w * L_seg(x_u, q), q the classes that the net of the generation before found in x_u."""

    config: Config
    family, paper = "pseudo labels", "Huo et al., CVPR 2021"

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return the supervised start and the generations; generation t reads the t-th labels that were made."""
        config = config if isinstance(config, Config) else Config()
        share = 1 / (config.generations + 2)
        halves = config.variant in ("first", "previous")
        start = "supervised" if config.variant in ("first", "restart") else "previous"
        stages = [
            Stage("supervised", share=2 * share, batch_unlabelled=0, uses=frozenset({"labels"}), relabel="all"),
        ]
        for t in range(1, config.generations + 1):
            trained_on, labelled = ((t - 1) % 2, t % 2) if halves else ("all", "all")
            stages.append(
                Stage(
                    f"generation_{t}",
                    share=share,
                    start=start,
                    uses=frozenset({"labels", "unlabelled", "pseudo"}),
                    pool=trained_on,
                    reads=t,
                    relabel=labelled if t < config.generations else None,
                )
            )
        return tuple(stages)
