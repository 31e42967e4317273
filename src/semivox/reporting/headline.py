"""What the numbers say, in sentences: each method against its control, and in one what the unlabelled scans brought."""

from collections import Counter
from collections.abc import Sequence

from semivox.reporting.tables import Tables, metric_name, p_text, score_text
from semivox.scoring.comparison import Comparison, higher_is_better
from semivox.scoring.verdict import BETTER, FEW, LEVEL, NONE, ONCE, SEEDS, UNLIKE, WORSE

LEARNED = 0.2
"""Mean Dice below which a model finds nothing that a comparison could be about."""
JUDGED = ("hd95", "asd")
"""First words of the distances that the headline looks at beside Dice."""
COUNTED = {
    BETTER: "{} did better than the control",
    WORSE: "{} did worse than the control",
    ONCE: "a difference was seen once for {}",
    NONE: "no difference is shown for {}",
    FEW: "{} had too few cases to compare",
    UNLIKE: "{} cannot be compared with the control (not comparable)",
}
IDLE = "for {} neither method nor control has learned yet"


def headline(tables: Tables) -> str:
    """Return in one sentence what the unlabelled scans brought, and in a second where the distances say otherwise."""
    found = [c for c in first_comparisons(tables) if c.group in tables.challengers]
    if not found:
        return "What the unlabelled scans brought cannot be said: no method was scored beside a control."
    if len(found) == 1:
        return f"With unlabelled scans, {full_sentence(tables, found[0])}"
    words = [IDLE if learned_nothing(c) and c.verdict != UNLIKE else COUNTED[c.verdict] for c in found]
    order = [*COUNTED.values(), IDLE]
    counts = sorted(Counter(words).items(), key=lambda item: order.index(item[0]))
    said = ", ".join(text.format(count) for text, count in counts)
    name = metric_name(tables.metrics[0])
    text = f"Of {len(found)} methods with unlabelled scans, by {name} on the same cases, {said}."
    other = [c.group for c in found if _dissent(tables, c)]
    return text + (f" The distances say otherwise of {_listed(other)}." if other else "")


def first_comparisons(tables: Tables) -> list[Comparison]:
    """Return the comparisons with the controls by the first metric, over all classes."""
    return [c for c in tables.comparisons if (c.metric, c.label) == (tables.metrics[0], None)]


def full_sentence(tables: Tables, comparison: Comparison) -> str:
    """Return a comparison in plain words, and those of the distances that say otherwise."""
    dissent = _dissent(tables, comparison)
    text = sentence(comparison)
    return f"{text} Not so by the distances: {'; '.join(map(_clause, dissent))}." if dissent else text


def sentence(comparison: Comparison) -> str:
    """Return a comparison in plain words, with its interval and its verdict."""
    c, name = comparison, metric_name(comparison.metric)
    mean, other = score_text(c.mean, c.metric), score_text(c.control_mean, c.metric)
    on = f"on the same {c.cases} case{'s' * (c.cases != 1)}"
    text = f"{c.group} reached a mean {name} of {mean}, {c.control} {other}, {on}"
    if c.verdict == FEW:
        return f"{text}: too few to compare."
    if c.verdict == UNLIKE:
        return f"{text}: not comparable, since they differ in more than their method ({'; '.join(c.confounders)})."
    if learned_nothing(c):
        return f"{text}: neither has learned yet."
    return f"{text}: a paired difference of {_difference(c)}, {_ending(c)}."


def learned_nothing(comparison: Comparison) -> bool:
    """Return whether both sides' mean Dice is so low that a difference between them means nothing."""
    return comparison.metric == "dice" and max(comparison.mean, comparison.control_mean) < LEARNED


def _dissent(tables: Tables, comparison: Comparison) -> list[Comparison]:
    """Return the same comparison by the distances whose verdict is another one."""
    if comparison.verdict in (FEW, UNLIKE) or learned_nothing(comparison):
        return []
    distances = [metric for metric in tables.metrics if metric.startswith(JUDGED) and metric != comparison.metric]
    found = [tables.comparison(comparison.group, metric) for metric in distances]
    said = (comparison.verdict, _leads(comparison))
    return [c for c in found if c and c.verdict not in (FEW, UNLIKE) and (c.verdict, _leads(c)) != said]


def _leads(c: Comparison) -> bool | None:
    """Return whether the difference is in the group's favour; None where none is shown."""
    return None if c.verdict not in (BETTER, WORSE, ONCE) else (c.difference > 0) == higher_is_better(c.metric)


def _clause(c: Comparison) -> str:
    """Return what one distance says, in short."""
    side = {None: "", True: " in its favour", False: " against it"}[_leads(c) if c.verdict == ONCE else None]
    return f"{metric_name(c.metric)} {_difference(c)}, {c.verdict}{side}"


def _difference(c: Comparison) -> str:
    difference, low, high = (score_text(v, c.metric, signed=True) for v in (c.difference, c.low, c.high))
    return f"{difference} (95 % interval {low} to {high})"


def _ending(c: Comparison) -> str:
    """Return how a sentence with an interval ends: the verdict, and what it is for."""
    if c.verdict == ONCE:
        seeds = f"{c.seeds} seed{'s' * (c.seeds != 1)}"
        return f"seen once: with {seeds} of the {SEEDS} that it takes to tell a method from its seed"
    if c.verdict == NONE and c.low <= 0 <= c.high:
        return "which contains 0: no difference shown"
    if c.verdict == NONE:
        return f"but Holm's p is {p_text(c.p_holm)}, not below {LEVEL:g}: no difference shown"
    return f"so it did {c.verdict}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
