"""What is asked of a training: the words that `train` and `prepare` share, as one value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from semivox.config.keys import for_method, parse_settings, read_config
from semivox.data.caching import default_cache
from semivox.data.splitting import Split
from semivox.files import if_given
from semivox.methods import OwnMethod, own_method, own_name


@dataclass(frozen=True)
class Request:
    """What to train, on what, and where.

    Attributes:
        data: nnU-Net or Medical Decathlon folder.
        method: name of a method, or the file of one's own (a path, the dotted name of its module, or as it was read);
            by default averaged_match, or supervised where nothing is unlabelled.
        split: lists of cases; by default every label is used and every other scan is unlabelled.
        config: name of a shipped config or path of a TOML file; by default the plan.
        settings: ``key=value`` words, or nested values, that win over the config.
        unlabelled: folder of further unlabelled scans.
        cache: folder of prepared arrays; by default the user's.
        device: "auto", "cpu" or "cuda".
        start: run folder whose nets the run begins from; None: anew.
    """

    data: Path
    method: str | OwnMethod | None = None
    split: Path | str | Split | None = None
    config: str | None = None
    settings: Sequence[str] | Mapping[str, Any] = ()
    unlabelled: Path | None = None
    cache: Path | None = None
    device: str = "auto"
    start: Path | None = None

    @cached_property
    def own(self) -> OwnMethod | None:
        """The method's file, read once and not run yet, where semivox does not ship it.

        Raises:
            UnknownMethodError, MethodError: there is no such method, or its file cannot be read.
        """
        return own_method(self.method) if isinstance(self.method, str) else self.method

    @property
    def method_name(self) -> str | None:
        """What the config calls the method that is asked for."""
        if isinstance(self.method, OwnMethod):
            return self.method.name
        return self.method and own_name(self.method)

    @property
    def values(self) -> Mapping[str, Any]:
        """The settings as nested values.

        Raises:
            ConfigError: a word is no ``key=value``.
        """
        return self.settings if isinstance(self.settings, Mapping) else parse_settings(self.settings)

    @property
    def cache_folder(self) -> Path:
        """Where prepared arrays lie."""
        return self.cache or default_cache()

    @cached_property
    def given(self) -> dict[str, Any]:
        """The values of the config, with its tables for single methods; nothing where a plan is to be made.

        Raises:
            ConfigError: there is no such config, or it is no TOML.
        """
        return read_config(self.config) if self.config else {}

    def given_for(self, method: str) -> dict[str, Any]:
        """Return the values of the config that hold for a method.

        Raises:
            ConfigError: as `given`, or a table of a method is no table.
        """
        return for_method(self.given, method)


def make_request(
    data: Path | str,
    method: Path | str | OwnMethod | None,
    split: Path | str | Split | None,
    config: Path | str | None,
    settings: Sequence[str] | Mapping[str, Any],
    unlabelled: Path | str | None,
    cache: Path | str | None,
    device: str = "auto",
    start: Path | str | None = None,
) -> Request:
    """Return the request of words that people give as strings or paths."""
    name = None if config is None else str(config)
    method = str(method) if isinstance(method, Path) else method
    further = (if_given(unlabelled), if_given(cache), device, if_given(start))
    return Request(Path(data), method, split, name, settings, *further)
