"""MONAI's nets behind our interface: logits only, for the methods that read no features."""

import copy
import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from semivox.errors import ConfigError, UnknownMethodError, nearest
from semivox.nets.net import Decoded, Features, Layout, Net


class MonaiNet(Net):
    """A net of MONAI, made with its own initialisation. ``options`` are arguments of its class."""

    def __init__(self, name: str, layout: Layout, options: dict[str, Any]) -> None:
        super().__init__(layout)
        self.name = name
        self.widths, self.strides = NoFeatures(self._refusal("its features")), NoFeatures(self._refusal("its features"))
        if layout.decoders != 1 or layout.deep:
            raise self._refusal(f"{layout.decoders} decoders{' with deep outputs' if layout.deep else ''}")
        self.inner = _monai_net(name, layout, options)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *spatial) of an image (B, C, *spatial)."""
        logits = self.inner(image)
        if isinstance(logits, Tensor):
            return logits
        raise ConfigError(
            f"net 'monai:{self.name}' returned a {type(logits).__name__}, expected one tensor of logits: "
            "turn its further outputs off by net options"
        )

    def check_fit(self, patch: tuple[int, ...]) -> None:
        """Refuse a net that does not give logits of every class in every voxel of a patch; weights and statistics stay.

        Raises:
            ConfigError: it fails on the patch, or gives another shape.
        """
        expected = (2, self.classes, *patch)
        try:
            found = self._tried(expected, "meta")  # shapes alone, in no time
        except Exception:
            try:
                found = self._tried(expected, "cpu")  # some nets need numbers
            except Exception as error:
                raise ConfigError(
                    f"net 'monai:{self.name}' fails on a patch of {'x'.join(map(str, patch))}: "
                    f"{(str(error) or type(error).__name__).splitlines()[0]}; take another patch or net options"
                ) from error
        shape = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        if shape != expected:
            raise ConfigError(
                f"net 'monai:{self.name}' gives {shape} for a patch of {'x'.join(map(str, patch))}, expected logits "
                f"{expected} (batch, classes, patch): change net options"
            )

    def _tried(self, size: tuple[int, ...], device: str) -> Any:
        """Return what a copy of the net gives for an image of this size."""
        with torch.no_grad():
            image = torch.zeros(size[0], self.channels, *size[2:], device=device)
            return copy.deepcopy(self.inner).to(device)(image)

    def encode(self, image: Tensor) -> Features:
        """Refuse: MONAI's nets give logits alone."""
        raise self._refusal("its features")

    def decode(self, features: Features, decoder: int = 0) -> Decoded:
        """Refuse: MONAI's nets give logits alone."""
        raise self._refusal("its features")

    @property
    def decoded_widths(self) -> tuple[int, ...]:
        """Refuse: MONAI's nets give logits alone."""
        raise self._refusal("its features")

    @property
    def decoded_strides(self) -> tuple[tuple[int, ...], ...]:
        """Refuse: MONAI's nets give logits alone."""
        raise self._refusal("its features")

    def _refusal(self, asked: str) -> ConfigError:
        return ConfigError(
            f"the method asks net 'monai:{self.name}' for {asked}, but MONAI's nets give logits alone: "
            "take net 'vnet' or 'unet', or a method that reads logits only"
        )


class NoFeatures(dict[str, Any]):
    """The widths or strides of a net without features: empty, and who reads one is refused."""

    def __init__(self, refusal: ConfigError) -> None:
        super().__init__()
        self.refusal = refusal

    def __missing__(self, name: str) -> Any:
        raise self.refusal


def _monai_net(name: str, layout: Layout, options: dict[str, Any]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MONAI's import says about other packages is nothing a user can act on
        from monai.networks import nets as zoo

    known = [key for key, item in vars(zoo).items() if inspect.isclass(item) and issubclass(item, nn.Module)]
    if name not in known:
        raise UnknownMethodError(f"MONAI has no net '{name}': {nearest(name, known)}")
    net = getattr(zoo, name)
    parameters = inspect.signature(net).parameters
    offered = {
        "spatial_dims": layout.dims, "in_channels": layout.channels, "out_channels": layout.classes,
        "channels": layout.widths, "strides": layout.strides, "init_filters": layout.widths[0],
    }  # fmt: skip
    arguments = {key: value for key, value in offered.items() if key in parameters} | options
    required = [key for key, value in parameters.items() if value.default is value.empty and value.kind in (0, 1, 3)]
    unknown, missing = sorted(set(options) - set(parameters)), sorted(set(required) - set(arguments))
    if unknown:
        raise ConfigError(f"net 'monai:{name}' has no option '{unknown[0]}': {nearest(unknown[0], parameters)}")
    if missing:
        raise ConfigError(f"net 'monai:{name}' also needs the options {', '.join(missing)}: set them as net options")
    try:
        made: nn.Module = net(**arguments)
    except Exception as error:
        raise ConfigError(f"MONAI refused to make net 'monai:{name}' with {arguments}: {error}") from error
    return made
