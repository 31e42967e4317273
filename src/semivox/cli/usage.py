"""How a verb is used: one line with what it must be given, and an example."""

from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption


class Verb(TyperCommand):
    """A verb whose usage names the options that it cannot do without: ``semivox train DATA -o OUTPUT [OPTIONS]``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words behind the verb: arguments, required options, and that there are others."""
        words = []
        for parameter in self.params:
            name = str(parameter.name).upper()
            if isinstance(parameter, TyperArgument):
                words.append(parameter.metavar or (name if parameter.required else f"[{name}]"))
            elif isinstance(parameter, TyperOption) and parameter.required:
                words.append(f"{parameter.opts[0]} {name}")
        return [*words, "[OPTIONS]"]


def usage_of(error: typer.TyperException) -> str:
    """Return how the verb is used, with its example, where an argument or an option is missing; else nothing."""
    context: Any = getattr(error, "ctx", None)
    if context is None or not error.format_message().startswith("Missing "):
        return ""
    return "\n".join([" ".join(context.get_usage().split()), context.command.epilog, ""])
