"""Method cards for people: a few lines each, or the whole card with every field; docs/methods.md is made of them."""

import inspect
from typing import get_args

from semivox.errors import UnknownMethodError, nearest
from semivox.methods import list_methods, method_class, method_module
from semivox.methods.base import Family
from semivox.nets.build import MakeNet
from semivox.nets.net import Net
from semivox.planning.measured import step_cost

FAMILIES = [family for family in get_args(Family) if family != "own"]


def first_sentences() -> dict[str, str]:
    """Return the first sentence of every method's card, by name."""
    return {name: (inspect.getdoc(method_module(name)) or "").splitlines()[0] for name in list_methods()}


def describe_methods(family: str | None = None) -> str:
    """Return the methods, of one family or of all, by family: what each is, its paper, stages, nets and cost.

    Raises:
        UnknownMethodError: no such family.
    """
    if family is not None and family not in FAMILIES:
        raise UnknownMethodError(f"there is no family '{family}': {nearest(family, FAMILIES)}")
    families = {name: method_class(method_module(name)).family for name in list_methods()}
    sentences, lines = first_sentences(), []
    for title in FAMILIES if family is None else [family]:
        lines.append(title)
        for name in (name for name, of in families.items() if of == title):
            lines += [f"  {name}", *(f"    {line}" for line in (sentences[name], *_facts(name)))]
    costs = "Time and memory of a training step are relative to supervised's with as many crops, as measured."
    return "\n".join([*lines, costs])


def _facts(name: str) -> list[str]:
    """Return where a method is from, and what it trains and costs."""
    module = method_module(name)
    kind, config = method_class(module), module.Config()
    method = kind(MakeNet("unet", dims=2, channels=1, classes=2, filters=2, levels=3, patch=(16, 16)), config)
    stages = ", ".join(stage.name for stage in kind.stages(config))
    nets = ", ".join(child for child, part in method.named_modules() if isinstance(part, Net))
    costs = {dims: step_cost(name, dims) for dims in (2, 3)}
    time = ", ".join(f"{cost.time:.1f} x in {dims}D" for dims, cost in costs.items())
    memory = ", ".join(f"{cost.memory:.1f} x in {dims}D" for dims, cost in costs.items())
    return [f"Paper: {kind.paper}. Stages: {stages}. Nets: {nets}.", f"Time: {time}. Memory: {memory}."]


def describe_method(name: str) -> str:
    """Return a method's card and its config: field, default, meaning.

    Raises:
        UnknownMethodError: no such method.
    """
    module = method_module(name)
    fields = [
        f"  {key} = {field.get_default(call_default_factory=True)!r}\n      {field.description}"
        for key, field in module.Config.model_fields.items()
    ]
    return "\n".join([inspect.getdoc(module) or "", "", "Config (method.*):", *fields])


def methods_page() -> str:
    """Return docs/methods.md."""
    parts = ["# Methods", "", "Made by `python -m semivox.cli.cards`; edit the method files instead.", ""]
    for name in list_methods():
        module = method_module(name)
        parts += [f"## {name}", "", "```text", inspect.getdoc(module) or "", "```", ""]
        parts += ["| field | default | meaning |", "|---|---|---|"]
        for key, field in module.Config.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            parts.append(f"| `{key}` | `{field.get_default(call_default_factory=True)!r}` | {meaning} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    print(methods_page())
