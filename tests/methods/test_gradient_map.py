"""Which loss term trains which part of a method, after a backward of that term alone."""

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, run_forward, stage_batch, toy_progress, warm

from semivox.methods import list_methods

WHOLE = {"student.encoder", "student.decoders"}
PEERS = {"net_1.encoder", "net_1.decoders", "net_2.encoder", "net_2.decoders"}
PRETRAIN = {
    "supervised": WHOLE,
    "global": {"student.encoder", "relation"},  # from the bottleneck
    "local": WHOLE | {"relation"},  # from the logits
}
FINETUNE = {
    "supervised": WHOLE,
    "unsupervised": WHOLE,
    "contrast": WHOLE | {"anatomy"},
    "neighbours": WHOLE | {"anatomy"},
}
MAP = {
    ("action", "pretrain"): PRETRAIN,
    ("action", "finetune"): {term: parts for term, parts in FINETUNE.items() if term != "neighbours"},
    ("ad_mt", "train"): {"supervised": WHOLE, "pseudo": WHOLE},
    ("arco", "pretrain"): PRETRAIN,
    ("arco", "finetune"): FINETUNE,
    ("mona", "pretrain"): PRETRAIN,
    ("mona", "finetune"): FINETUNE | {"equivariance": WHOLE},
    ("atso", "supervised"): {"supervised": WHOLE},
    **{("atso", f"generation_{t}"): {"supervised": WHOLE, "pseudo": WHOLE} for t in (1, 2, 3, 4)},
    ("averaged_match", "warm"): {"supervised": WHOLE},
    ("averaged_match", "match"): {"supervised": WHOLE, "match": WHOLE},
    ("cct", "train"): {"supervised": WHOLE, "auxiliary": WHOLE, "consistency": WHOLE},
    ("cps", "train"): {"supervised": PEERS, "cross": PEERS},
    ("cvrl", "train"): {
        "supervised": WHOLE,
        "elastic": WHOLE,
        "global": WHOLE | {"head"},
        "local": WHOLE | {"head"},
    },
    ("dct", "train"): {"supervised": PEERS, "agreement": PEERS, "diversity": PEERS},
    ("dan", "train"): {
        "supervised": WHOLE,
        "adversarial": WHOLE,  # and never the critic
        "critic": {"critic"},  # alone
    },
    ("dtc", "train"): {
        "supervised": WHOLE,
        "sdm": WHOLE | {"head_sdm"},
        "consistency": WHOLE | {"head_sdm"},
    },
    ("duo_segnet", "train"): {
        "supervised": PEERS,
        "agreement": PEERS,
        "adversarial": PEERS,  # and never the critic
        "critic": {"critic"},  # alone
    },
    ("bcp", "pretrain"): {"supervised": WHOLE},
    ("bcp", "mix"): {"supervised": WHOLE, "pseudo": WHOLE},
    ("entropy_min", "train"): {"supervised": WHOLE, "entropy": WHOLE},
    ("fixmatch", "train"): {"supervised": WHOLE, "match": WHOLE},
    ("ict", "train"): {"supervised": WHOLE, "consistency": WHOLE},
    ("gcl", "global"): {"global": {"student.encoder", "head_global"}},
    ("gcl", "local"): {"local": {"student.decoders", "head_local"}},
    ("gcl", "finetune"): {"supervised": WHOLE},
    ("local_contrast", "pretrain"): {"global": {"student.encoder", "head_global"}},
    ("local_contrast", "local"): {"local": WHOLE | {"head_local"}},
    ("local_contrast", "finetune"): {"supervised": WHOLE},
    ("supervised", "train"): {"supervised": WHOLE},
    ("mc_net", "train"): {"supervised": WHOLE, "decoders": WHOLE, "consistency": WHOLE},
    ("mean_teacher", "train"): {"supervised": WHOLE, "consistency": WHOLE},
    ("pixel_contrast", "train"): {"supervised": WHOLE, "contrast": WHOLE | {"head"}},
    ("sassnet", "train"): {
        "supervised": WHOLE,
        "sdm": WHOLE | {"head_sdm"},
        "adversarial": WHOLE | {"head_sdm"},  # and never the critic
        "critic": {"critic"},  # alone
    },
    ("secl", "train"): {"supervised": WHOLE, "contrast": {"student.encoder", "head"}},
    ("unimatch", "train"): {"supervised": WHOLE, "strong": WHOLE, "features": WHOLE},
    ("ua_mt", "train"): {"supervised": WHOLE, "consistency": WHOLE},
    ("urpc", "train"): {"supervised": WHOLE, "scales": WHOLE, "consistency": WHOLE},
    ("ss_net", "train"): {
        "supervised": WHOLE,
        "smoothness": WHOLE,
        "separation": WHOLE | {"projector", "predictor", "scores", "scores_prototypes"},
    },
    ("self_training", "supervised"): {"supervised": WHOLE},
    **{("self_training", f"generation_{t}"): {"supervised": WHOLE, "pseudo": WHOLE} for t in (1, 2)},
    ("simcvd", "train"): {
        "supervised": WHOLE,
        "sdm": WHOLE | {"head_sdm"},
        "contrast": WHOLE | {"head_sdm", "head_slices"},
        "distillation": {"student.encoder"},  # the bottleneck is the encoder's end
        "consistency": WHOLE | {"head_sdm"},
    },
}


def test_every_stage_of_every_method_is_on_the_map():
    assert {(name, stage.name) for name in list_methods() for stage in all_stages(name)} == set(MAP)


@pytest.mark.parametrize("key", MAP, ids="-".join)
def test_each_term_trains_exactly_these_parts(key):
    name, stage = key[0], next(stage for stage in all_stages(key[0]) if stage.name == key[1])
    method = warm(make_toy_method(name), stage)  # what is remembered is there
    freeze(method, stage)
    terms = run_forward(method, stage_batch(stage), toy_progress(stage=stage.name))
    weights = dict(method.named_parameters())
    found = {}
    for term, loss in terms.losses.items():
        asking = {weight: p for weight, p in weights.items() if p.requires_grad}
        gradients = torch.autograd.grad(loss, list(asking.values()), retain_graph=True, allow_unused=True)
        found[term] = {
            _part(weight) for weight, g in zip(asking, gradients, strict=True) if g is not None and g.abs().sum() > 0
        }
    assert found == MAP[key]


def _part(weight: str) -> str:
    """Return encoder or decoders for a weight of a net, and the submodule for one of a head."""
    parts = weight.split(".")
    return ".".join(parts[:2]) if parts[1] in ("encoder", "decoders") else parts[0]
