"""Method cards for people: one line each, or the whole card with every field; docs/methods.md is made of them."""

import inspect

from semivox.methods import list_methods, method_module


def describe_methods() -> str:
    """Return a line per method: its name and the first sentence of its card."""
    lines = {name: (inspect.getdoc(method_module(name)) or "").splitlines()[0] for name in list_methods()}
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}" for name, line in lines.items())


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
