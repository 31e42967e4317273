"""A run's configuration: every key with its meaning, and how values from plan, file and command line become one.

Later sources win: field defaults < plan < ``--config`` < ``--set``. The method's own fields (``method.*``) are checked
by the method's Config, which the loop knows and this file does not.
"""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from semivox.config.toml import flatten, key_text, nest, value_text
from semivox.errors import ConfigError, nearest

Model = TypeVar("Model", bound=BaseModel)


UNSET = ("none", "null")
"""What people write on a command line for a key that is to be unset."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants")


class NetConfig(_Frozen):
    """``net.*``: the network that a method makes its students from."""

    name: str = "vnet"
    """vnet, unet, smp:NAME in 2D, or a MONAI net by its class name where a method needs logits only."""
    filters: int = Field(16, ge=1)
    """channels at full resolution; doubled at every level."""
    norm: Literal["batch", "instance", "group"] = "instance"
    """normalisation layers."""
    levels: int = Field(5, ge=2)
    """resolutions, the finest included."""
    strides: tuple[tuple[int, ...], ...] | None = None
    """factor of each of the levels - 1 downsamplings along each axis; all 2 when unset."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """probability that a channel is dropped, where the net has dropout."""
    options: dict[str, Any] = {}
    """further arguments of a net of another package."""


class PrepareConfig(_Frozen):
    """``prepare.*``: what happens to intensities and borders before training."""

    clip: tuple[float, float] | None = None
    """intensities are clipped to this range first; for CT the 0.5 and 99.5 percentiles of the foreground when unset."""
    normalise: Literal["volume", "foreground"] | None = None
    """z-score by each scan, or by the foreground of the labelled cases; unset: "foreground" for CT, else "volume"."""
    boxes: str | None = None
    """JSON file of crop boxes made outside training: {case: [x0, y0, z0, x1, y1, z1]} in voxels of the RAS+ scan."""


class PredictConfig(_Frozen):
    """``predict.*``: how windows over a whole scan become one mask."""

    step_size: float = Field(0.5, gt=0, le=1)
    """distance of neighbouring windows as a part of the patch."""
    stride: tuple[int, ...] | None = None
    """the same in voxels, for protocols that name it; wins over step_size."""
    blend: Literal["gaussian", "plain"] = "gaussian"
    """weights of overlapping windows."""
    batch: int = Field(4, ge=1)
    """windows that pass the net together."""
    mirror: bool = False
    """average over all mirrored copies of every window."""
    largest_component: bool = False
    """keep the largest connected component of every class."""


class StageConfig(_Frozen):
    """``stages.NAME.*``: one stage of a method that has several."""

    steps: int | None = Field(None, ge=1)
    """optimiser steps of the stage."""
    batch_labelled: int | None = Field(None, ge=1)
    """labelled crops per step."""
    batch_unlabelled: int | None = Field(None, ge=0)
    """unlabelled crops per step."""


class Config(_Frozen):
    """Everything that decides a run besides its data and its split."""

    label: str = ""
    """what reports call this run; the method's name when empty."""
    seed: int = 0
    """of weights, crops, views and dropout."""
    steps: int = Field(6000, ge=1)
    """optimiser steps of a method with one stage."""
    batch_labelled: int = Field(2, ge=1)
    """labelled crops per step."""
    batch_unlabelled: int = Field(2, ge=0)
    """unlabelled crops per step, for methods that use them."""
    checkpoint_every: int = Field(500, ge=1)
    """steps between checkpoints."""
    log_every: int = Field(10, ge=1)
    """steps between rows of log.jsonl."""
    equal_time: bool = False
    """its steps were chosen to take as long as its control's: reports then compare it with other numbers of steps."""
    determinism: Literal["fast", "strict"] = "fast"
    """"strict" = bit-identical on the same machine, slower; a GPU operation that cannot be is refused when it runs."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """auto: bf16 or fp16 on a GPU that has it, 32 on a CPU."""
    dims: Literal[2, 3] = 3
    """2 trains on slices, 3 on volumes."""
    spacing: tuple[float, float, float] | None = None
    """voxel size in mm along the RAS+ axes that scans are resampled to; each file's own when unset."""
    resize: tuple[int, int] | None = None
    """2D only: pixels of every slice, instead of an in-plane spacing."""
    slice_axis: Literal[0, 1, 2] = 2
    """the through-plane axis among the RAS+ axes; `train` takes that of the largest median spacing when unset."""
    patch: tuple[int, ...] = (112, 112, 80)
    """voxels of a training crop, and of a prediction window."""
    foreground: float = Field(1 / 3, ge=0, le=1)
    """part of the labelled crops that is centred on foreground."""
    prepare: PrepareConfig = PrepareConfig()
    """intensities and borders."""
    net: NetConfig = NetConfig()
    """the network."""
    method: dict[str, Any] = {}
    """the method's ``name`` and its own fields; ``sha256`` of its file where semivox does not ship it."""
    stages: dict[str, StageConfig] = {}
    """steps and batches of methods with several stages."""
    predict: PredictConfig = PredictConfig()
    """prediction."""

    @property
    def method_name(self) -> str:
        """The method that the config names, or an empty string."""
        return str(self.method.get("name", ""))

    @property
    def method_digest(self) -> str:
        """The SHA-256 of the method's file where semivox does not ship it, or an empty string."""
        return str(self.method.get("sha256", ""))

    @property
    def method_fields(self) -> dict[str, Any]:
        """The method's own fields: ``method.*`` without the name."""
        return {key: value for key, value in self.method.items() if key != "name"}


def resolve_config(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Config, dict[str, str]]:
    """Merge values from several sources; the later ones win.

    Args:
        layers: (source, values) in rising order of precedence; values nest as in a TOML file.

    Returns:
        The config, and the source of every key that is not a default, by dotted name.

    Raises:
        ConfigError: an unknown key (the nearest one is named) or a value of the wrong kind.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, values in layers:
        for key, value in flatten(values).items():
            merged[key] = value
            sources[key] = source
    config = validated(Config, nest(merged), where="config", sources=sources)
    if len(config.patch) != config.dims:
        raise ConfigError(f"key 'patch' has {len(config.patch)} numbers, but dims = {config.dims}: give one per axis")
    return config, sources


def validated(
    model: type[Model], values: Mapping[str, Any], *, where: str, sources: Mapping[str, str] | None = None
) -> Model:
    """Return a config object of checked values.

    Raises:
        ConfigError: one line that names the key, where it came from, what was found, and what is expected.
    """
    try:
        return model(**values)
    except ValidationError as error:
        # A wrong name is told first: it is also why the right one is missing.
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        prefix = "method." if where.startswith("method") else ""
        # A fault within a value, such as patch.2, comes from where the value comes from.
        source = next((by for name, by in (sources or {}).items() if f"{prefix}{key}.".startswith(f"{name}.")), where)
        if first["type"] == "extra_forbidden":
            known = [prefix + name for name in _known_keys(model, first["loc"])]
            raise ConfigError(f"unknown key '{prefix}{key}' ({source}): {nearest(prefix + key, known)}") from None
        if first["type"] == "missing":
            raise ConfigError(f"key '{prefix}{key}' ({source}) is missing: set it") from None
        expected = first["msg"][0].lower() + first["msg"][1:]
        raise ConfigError(f"key '{prefix}{key}' ({source}): found {first.get('input')!r}, but {expected}") from None


def read_config(name: str) -> dict[str, Any]:
    """Return the values of a config: the name of a shipped one, or the path of a TOML file.

    Raises:
        ConfigError: no such config (the nearest name is named), or the file is no TOML.
    """
    shipped = list_configs()
    path = Path(name)
    if name in shipped:
        text = resources.files("semivox.config").joinpath("shipped", f"{name}.toml").read_text(encoding="utf-8")
    elif path.suffix == ".toml" and path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise ConfigError(f"there is no config file or shipped config '{name}': {nearest(name, shipped)}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config '{name}' is not valid TOML: {error}") from None


def for_method(values: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return a config file's values for one method: those of its table ``methods.NAME`` count as ``method.*``.

    Its stages, ``methods.NAME.stages.*``, count as ``stages.*``: another method would refuse them.

    Raises:
        ConfigError: ``method`` or ``methods`` is no table, or ``methods`` holds anything but tables.
    """
    shared, tables = values.get("method", {}), values.get("methods", {})
    for key, table in {"method": shared, "methods": tables}.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"key '{key}' is a table of fields, found {table!r}: method.name chooses the method")
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"key 'methods.{name}' is no table, found {table!r}: expected fields of one method")
    own = dict(tables.get(method, {}))
    stages = {"stages": own.pop("stages")} if "stages" in own else {}
    rest = {key: value for key, value in values.items() if key != "methods"}
    return rest | stages | {"method": shared | own}


def list_configs() -> tuple[str, ...]:
    """Return the names of the shipped configs."""
    files = resources.files("semivox.config").joinpath("shipped").iterdir()
    return tuple(sorted(file.name[:-5] for file in files if file.name.endswith(".toml")))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``key=value`` words; a value is read as TOML, or as a string where it is none.

    TOML has no word for nothing: ``key=None`` (or null) unsets a key that may be unset; ``key="None"`` is that string.

    Raises:
        ConfigError: a word has no '='.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set takes key=value, found '{setting}'")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            word = text.strip()
            value = None if word.lower() in UNSET else word
        values[key.strip()] = value
    return nest(values)


def config_text(config: BaseModel, sources: Mapping[str, str]) -> str:
    """Return a config as TOML: one dotted key a line, with the source of its value as a comment."""
    lines = []
    for key, value in flatten(config.model_dump(mode="json")).items():
        if value is None:
            continue
        lines.append(f"{key_text(key)} = {value_text(value, where=key)}  # {sources.get(key, 'default')}")
    return "\n".join(lines) + "\n"


def _known_keys(model: type[BaseModel], asked: Sequence[int | str]) -> list[str]:
    """Return the dotted keys of a model; those of ``stages`` for the stage that is asked for."""
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += [f"{name}.{key}" for key in _known_keys(inner, ())]
        elif name == "stages" and asked[:1] == (name,):
            keys += [f"{name}.{asked[1]}.{key}" for key in StageConfig.model_fields]
        else:
            keys.append(name)
    return keys
