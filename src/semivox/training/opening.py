"""What a training begins with: the scans that it sees, the method, the device and where the run goes, for people."""

from collections.abc import Sequence

from semivox.data.overview import overview
from semivox.training.assembly import Draft
from semivox.types import Stage

_BATCHES = ("batch_labelled", "batch_unlabelled")


def opening(draft: Draft, stages: Sequence[Stage], *, processes: int = 1) -> dict[str, str]:
    """Return facts on a training by their name; of held-out scans no header is read.

    Args:
        draft: the run and what it is trained on.
        stages: resolved.
        processes: that train together.
    """
    config, facts = draft.run.config, draft.run.facts
    steps = " + ".join(str(stage.steps) for stage in stages)
    labelled, unlabelled = (max(getattr(stage, key) or 0 for stage in stages) for key in _BATCHES)
    crops = f"{labelled} labelled" + (f" and {unlabelled} unlabelled" if unlabelled else "")
    net = f"{config.net.name} of {config.net.filters} filters, patch {' x '.join(map(str, config.patch))}"
    device = facts.get("gpu") or facts.get("device") or "auto"
    together = f", {processes} processes" if processes > 1 else ""
    return {
        **overview(draft.dataset, draft.lists, [draft.dataset.case(name) for name in draft.lists.pool]),
        "method": f"{config.method_name}{_why(draft)}",
        "training": f"{net}, {steps} steps of {crops} crops, seed {config.seed}",
        "device": f"{device}, precision {facts.get('precision') or config.precision}{together}",
        "run": str(draft.run.path),
    }


def _why(draft: Draft) -> str:
    """Return why the method is what it is, where nobody named it."""
    if draft.run.facts.get("sources", {}).get("method.name") != "data":
        return ""
    count = len(draft.lists.unlabelled)
    reason = f"{count} scans are unlabelled" if count else "no scan is unlabelled"
    return f", by default, since {reason}; --method names another"
