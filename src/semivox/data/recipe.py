"""The recipe by which scans become arrays, and the geometry that leads back; both are plain values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from semivox.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """All that decides how scans become arrays.

    Attributes:
        dims: 2 or 3, axes that the net sees.
        spacing: canonical voxel size (x, y, z) in mm to resample to, in plane only for 2D; None keeps each file's own.
        resize: voxels of the two in-plane axes, for 2D, instead of a spacing; slices are then not cropped to non-zero.
        slice_axis: canonical axis through the slices.
        normalise: per channel, "volume" (z-score of each scan) or "foreground" (z-score by this recipe's numbers).
        clip: per channel, intensities (low, high) to clip to before, or None.
        mean: per channel, for "foreground"; else None.
        std: per channel, for "foreground"; else None.
        boxes: canonical voxels (x, y, z low, x, y, z high) to crop a case to; other cases are cropped to non-zero.
        classes: K, background included.
        channels: C.
        label_values: the value in label files of every class.
        ignore: the value of voxels without a label, or None.
    """

    dims: Literal[2, 3]
    spacing: tuple[float, float, float] | None
    slice_axis: int
    normalise: tuple[str, ...]
    clip: tuple[tuple[float, float] | None, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...]
    classes: int
    channels: int
    label_values: tuple[int, ...]
    resize: tuple[int, int] | None = None
    boxes: Mapping[str, tuple[int, ...]] | None = None
    ignore: int | None = None

    def __post_init__(self) -> None:
        per_channel = (self.normalise, self.clip, self.mean, self.std)
        if any(len(values) != self.channels for values in per_channel) or len(self.label_values) != self.classes:
            raise ConfigError(
                f"a recipe for {self.channels} channels and {self.classes} classes: expected normalise, clip, mean and "
                "std for every channel, and a label value for every class"
            )
        if self.dims not in (2, 3) or (self.resize is not None and self.dims == 3):
            raise ConfigError(f"dims = {self.dims}, resize = {self.resize}: dims is 2 or 3, and resize belongs to 2")
        for name, mean, std in zip(self.normalise, self.mean, self.std, strict=True):
            if name not in ("volume", "foreground") or (name == "foreground" and (mean is None or not std)):
                raise ConfigError(
                    f"normalise = '{name}' with mean {mean}, std {std}: expected 'volume', or 'foreground' with both"
                )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as values that JSON can hold."""
        return asdict(replace(self, boxes=None)) | {"boxes": None if self.boxes is None else dict(self.boxes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """Return the recipe that `to_json` described.

        Raises:
            ConfigError: keys are missing or unknown, values of another kind or beyond reason, or they do not fit.
        """
        found = _tuples(values)
        try:
            _Values.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"not a recipe: key '{key}': {first['msg']}; make a new plan") from None
        return cls(**found)

    @property
    def digest(self) -> str:
        """A name of the recipe that changes with anything in it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


Side = Annotated[int, Field(ge=1, le=2**16)]
Millimetres = Annotated[float, Field(ge=1e-4, le=1e4)]
Intensity = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Channels = tuple[Intensity | None, ...]


class _Values(BaseModel):
    """What the values of a recipe may be in a file; huge ones would ask for huge arrays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dims: int
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None
    slice_axis: Annotated[int, Field(ge=0, le=2)]
    normalise: tuple[str, ...]
    clip: tuple[tuple[Intensity, Intensity] | None, ...]
    mean: Channels
    std: Channels
    classes: Annotated[int, Field(ge=2, le=255)]
    channels: Annotated[int, Field(ge=1, le=10_000)]
    label_values: tuple[Whole, ...]
    resize: tuple[Side, Side] | None = None
    boxes: dict[str, tuple[Whole, Whole, Whole, Whole, Whole, Whole]] | None = None
    ignore: Whole | None = None


@dataclass(frozen=True)
class Geometry:
    """How a prepared array lies in its scan: all that the way back needs.

    Attributes:
        shape: voxels of the whole scan, canonical axes, as are the next four.
        low: first voxel of the crop.
        high: voxel after the last of the crop.
        factors: prepared voxel size over the scan's.
        lengths: voxels of the resampled crop.
        axes: the canonical axis of each stored axis.
        spacing: prepared voxel size in mm, stored axes.
    """

    shape: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    factors: tuple[float, ...]
    lengths: tuple[int, ...]
    axes: tuple[int, ...]
    spacing: tuple[float, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Geometry":
        """Return the geometry whose fields JSON has turned into lists."""
        return cls(**_tuples(values))

    @property
    def crop(self) -> tuple[slice, ...]:
        """The crop as slices of the scan."""
        return tuple(slice(low, high) for low, high in zip(self.low, self.high, strict=True))


def _tuples(value: Any) -> Any:
    """Return JSON's lists as tuples, in dictionaries too."""
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
