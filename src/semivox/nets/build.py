"""Makes nets by name, each initialised by (seed, stage, its own name) alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import nn

from semivox.errors import ConfigError, UnknownMethodError, nearest
from semivox.nets.foreign import MonaiNet
from semivox.nets.heads import NORMS, Norm
from semivox.nets.net import Layout, Net
from semivox.nets.segmentation_models import NETS, PictureNet
from semivox.nets.unet import UNet
from semivox.nets.vnet import VNet
from semivox.types import seed_from

OWN: dict[str, type[VNet] | type[UNet]] = {"unet": UNet, "vnet": VNet}
MONAI = ("AttentionUnet", "BasicUNet", "SegResNet", "UNet", "VNet")
"""Nets of MONAI that need no further options; every other class of ``monai.networks.nets`` may be named too."""


def list_nets() -> tuple[str, ...]:
    """Return the names of nets that need no options: ours, MONAI's (logits alone), and those for pictures."""
    return (*OWN, *(f"monai:{name}" for name in MONAI), *(f"smp:{name}" for name in NETS))


@dataclass(frozen=True)
class MakeNet:
    """A maker of nets of one kind and size; a method calls it once for each of its nets.

    Attributes:
        name: one of `list_nets`, or ``monai:CLASS`` (``CLASS`` alone will do) for any net of MONAI; ``smp:NAME`` is a
            net of segmentation-models-pytorch.
        dims: 2 or 3 spatial axes.
        channels: channels of the image.
        classes: K, background included.
        slice_axis: the through-plane axis, counted among the spatial ones.
        filters: channels at full resolution; each level doubles them.
        norm: "instance", "batch" or "group".
        levels: resolutions, the full one included; fewer levels leave out the coarsest.
        strides: downsampling between two levels, one tuple of `dims` numbers for each; None halves every axis.
        dropout: probability at the place where the net drops most.
        options: arguments of a MONAI net, which go before ours: it reads dims, channels and classes, and filters,
            levels and strides where its class has them, but neither norm nor dropout; or of a net ``smp:NAME``, which
            reads channels and classes alone. Our nets take none.
        patch: voxels of a crop along each spatial axis, for heads whose size depends on it; nets do not.
        seed: the run's seed.
        stage: the stage that starts from these weights.
    """

    name: str = "vnet"
    _: KW_ONLY
    dims: int
    channels: int
    classes: int
    slice_axis: int = 2
    filters: int = 16
    norm: Norm = "instance"
    levels: int = 5
    strides: tuple[tuple[int, ...], ...] | None = None
    dropout: float = 0.5
    options: Mapping[str, Any] | None = None
    patch: tuple[int, ...] | None = None
    seed: int = 0
    stage: str = "train"

    def __post_init__(self) -> None:
        """Refuse what no net can be built from.

        Raises:
            UnknownMethodError: no such net; the message names the nearest one.
            ConfigError: a value out of its range, or options for a net of ours.
        """
        if self.name not in OWN and not self._monai_name and self._picture_name not in NETS:
            known = [net for net in list_nets() if net.startswith("smp:") == self.name.startswith("smp:")]
            raise UnknownMethodError(f"there is no net '{self.name}': {nearest(self.name, known)}")
        if self.options and self.name in OWN:
            raise ConfigError(f"net '{self.name}' takes no options, found {dict(self.options)}: remove net options")
        if self.norm not in NORMS:
            raise ConfigError(f"there is no norm '{self.norm}': {nearest(str(self.norm), NORMS)}")
        self._check_numbers()

    def __call__(
        self, decoders: int = 1, deep: bool = False, name: str = "student", *, varied: bool = False
    ) -> Net:
        """Return a new net on the CPU.

        Every weight depends on (seed, stage, name, its own place in the net) alone: a further decoder or head changes
        no other weight, two nets of one name are equal, and torch's global randomness is left as it was.

        Args:
            decoders: decoders that share the encoder; 0 is the one that ``net(x)`` takes.
            deep: whether decoders also give logits of their coarser features.
            name: what the method calls the net.
            varied: whether each decoder enlarges features in another way (`Net.ways`); 0 keeps the net's own.

        Raises:
            ConfigError: a net of another package is asked for what it does not have, or its options are wrong.
        """
        if decoders < 1:
            raise ConfigError(f"decoders = {decoders}: a net has at least one decoder")
        layout = self._layout(decoders, deep, varied)
        with self.seeded(name), torch.device("cpu"):
            if self._monai_name:
                foreign = MonaiNet(self._monai_name, layout, dict(self.options or {}))
                if self.patch is not None:
                    foreign.check_fit(self.patch)
                return foreign
            if self._picture_name:
                return PictureNet(self._picture_name, layout, dict(self.options or {}))
            net = OWN[self.name](layout)
        self._initialise(net, name)
        return net

    @contextmanager
    def seeded(self, name: str) -> Iterator[None]:
        """Make what is initialised inside a function of (seed, stage, name) alone; for the heads of a method."""
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would seed the GPU's generators too, and those are not put back.
            torch.default_generator.manual_seed(seed_from(self.seed, self.stage, name))
            yield

    def _initialise(self, net: Net, name: str) -> None:
        for place, module in net.named_modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                generator = torch.Generator().manual_seed(seed_from(self.seed, self.stage, name, place))
                nn.init.kaiming_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def _monai_name(self) -> str:
        # Every class name starts with a capital, none of our nets does: so a typing error imports no MONAI.
        name = self.name.removeprefix("monai:")
        return name if name != self.name or name[:1].isupper() else ""

    @property
    def _picture_name(self) -> str:
        return self.name.removeprefix("smp:") if self.name.startswith("smp:") else ""

    def _layout(self, decoders: int, deep: bool, varied: bool) -> Layout:
        return Layout(
            dims=self.dims,
            channels=self.channels,
            classes=self.classes,
            slice_axis=self.slice_axis,
            widths=tuple(self.filters * 2**level for level in range(self.levels)),
            strides=self.strides or ((2,) * self.dims,) * (self.levels - 1),
            norm=self.norm,
            dropout=self.dropout,
            decoders=decoders,
            deep=deep,
            varied=varied,
        )

    def _check_numbers(self) -> None:
        if self.dims not in (2, 3):
            raise ConfigError(f"dims = {self.dims}: nets have 2 or 3 spatial axes")
        for key, least in (("channels", 1), ("classes", 1), ("filters", 1), ("levels", 2)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} = {getattr(self, key)}: expected {least} or more")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout = {self.dropout}: expected a probability from 0 to below 1")
        strides = self.strides
        if strides is not None and (
            len(strides) != self.levels - 1 or any(len(s) != self.dims or min(s) < 1 for s in strides)
        ):
            raise ConfigError(
                f"strides = {strides}: {self.levels} levels in {self.dims}D need {self.levels - 1} tuples of "
                f"{self.dims} numbers from 1 on"
            )
