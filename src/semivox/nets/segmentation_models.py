"""Nets of segmentation-models-pytorch behind our interface: 2D, with features; weights are random or a file's."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semivox.errors import ConfigError, GeometryError, nearest
from semivox.nets.net import Decoded, Features, Layout, Net

NETS = (
    "DeepLabV3", "DeepLabV3Plus", "FPN", "Linknet", "MAnet", "PSPNet", "Segformer", "UPerNet", "Unet", "UnetPlusPlus",
)  # fmt: skip
"""The nets that may be named, each as ``smp:NAME``; none needs options."""
WEIGHTS_FILE = "encoder_weights_file"
"""The option that names a file of encoder weights, such as those of ImageNet: .pth or .safetensors."""

_OURS = {
    "in_channels": "the data set says how many", "classes": "the data set says how many",
    "activation": "methods read logits", "aux_params": "methods read no classification",
    "encoder_weights": f"nothing is downloaded: name a file with {WEIGHTS_FILE}",
}  # fmt: skip


class PictureNet(Net):
    """A net of segmentation-models-pytorch. ``options`` are arguments of its class, and `WEIGHTS_FILE`.

    The encoder's "level1" is the image itself. `Decoded.features` are the decoder's output and, where that is coarser
    than the image, the same enlarged as the logits are; where the net's last kernel is one pixel wide, as in
    DeepLabv3+, the logits are a convolution of it. Norm and dropout are the net's own, and so are widths and strides,
    which are measured.
    """

    def __init__(self, name: str, layout: Layout, options: dict[str, Any]) -> None:
        super().__init__(layout)
        self.name, self.norm = name, "batch"
        if layout.dims != 2 or layout.deep or layout.varied:
            asked = "volumes" if layout.dims != 2 else "deep outputs" if layout.deep else "decoders of several kinds"
            raise ConfigError(f"net 'smp:{name}' is for slices and pictures (dims = 2), found a method that asks for "
                              f"{asked}: take net 'vnet' or 'unet'")  # fmt: skip
        models = [_model(name, layout, dict(options)) for _ in range(layout.decoders)]
        self.encoder = Encoder(models[0].encoder)
        self.decoders = nn.ModuleList(Decoder(model.decoder, model.segmentation_head) for model in models)
        self._measure()

    @property
    def decoded_widths(self) -> tuple[int, ...]:
        """Channels of each of `Decoded.features`, coarse to fine."""
        return self._decoded_widths

    @property
    def decoded_strides(self) -> tuple[tuple[int, ...], ...]:
        """Strides of each of `Decoded.features`, coarse to fine."""
        return self._decoded_strides

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, X, Y) of an image (B, C, X, Y), by the first decoder; nothing else is enlarged."""
        first: Any = self.decoders[0]
        logits: Tensor = first.logits(self.encode(image))
        return logits

    @torch.no_grad()
    def _measure(self) -> None:
        """Find widths and strides with a small image, and that the logits are as large as the image."""
        side, training = 128, self.training
        self.eval()
        try:
            features = self.encoder(torch.zeros(1, self.channels, side, side))
            decoded = self.decoders[0](features)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigError(f"net 'smp:{self.name}' cannot be used with its options: {error}") from error
        if decoded.logits.shape != (1, self.classes, side, side):
            raise ConfigError(
                f"net 'smp:{self.name}' gives logits of {tuple(decoded.logits.shape[2:])} for an image of "
                f"{(side, side)}, expected the same size: set the option 'upsampling' or leave it out"
            )
        self.train(training)
        self.widths = {name: feature.shape[1] for name, feature in features.items()}
        self.strides = {name: _stride(feature, side) for name, feature in features.items()}
        self._decoded_widths = tuple(feature.shape[1] for feature in decoded.features)
        self._decoded_strides = tuple(_stride(feature, side) for feature in decoded.features)


class Encoder(nn.Module):
    """An encoder whose features have names."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Features:
        """Return the image as "level1", then the encoder's features, the last one as "bottleneck"."""
        features = self.inner(image)
        names = [f"level{number}" for number in range(1, len(features))]
        return dict(zip([*names, "bottleneck"], features, strict=True))


class Decoder(nn.Module):
    """A decoder with its segmentation head: a convolution, then enlarging."""

    def __init__(self, decoder: nn.Module, head: nn.Sequential) -> None:
        super().__init__()
        self.decoder, self.head = decoder, head

    def forward(self, features: Features) -> Decoded:
        """Return logits, and the decoder's output as it is and at full resolution."""
        output = self._output(features)
        enlarge = self.head[1]
        outputs = (output,) if isinstance(enlarge, nn.Identity) else (output, enlarge(output))
        return Decoded(self.head(output), outputs)

    def logits(self, features: Features) -> Tensor:
        """Return the logits alone."""
        logits: Tensor = self.head(self._output(features))
        return logits

    def _output(self, features: Features) -> Tensor:
        try:
            output: Tensor = self.decoder(list(features.values()))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise GeometryError(
                "this net pools a whole crop to one value, which batch norm maps to zero where a batch has one crop "
                "alone: take batch_labelled and batch_unlabelled of at least 2"
            ) from error
        return output


def _stride(feature: Tensor, side: int) -> tuple[int, int]:
    return side // feature.shape[2], side // feature.shape[3]


def _model(name: str, layout: Layout, options: dict[str, Any]) -> Any:
    """Return a model with its own initialisation, and the encoder's weights from the file that is named."""
    zoo = _zoo()
    net, file = getattr(zoo, name), options.pop(WEIGHTS_FILE, None)
    _check_options(name, net, options, zoo.encoders.get_encoder_names())
    channels = 3 if file else layout.channels  # files are of RGB; the first layer is then fitted to other channels
    try:
        model = net(**options, encoder_weights=None, in_channels=channels, classes=layout.classes)
    except (AssertionError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"segmentation-models-pytorch refused to make '{name}' with {options}: {error}") from error
    if file:
        _load(model.encoder, Path(file), layout.channels)
    return model


def _check_options(name: str, net: Any, options: dict[str, Any], encoders: list[str]) -> None:
    encoder = str(options.get("encoder_name", "resnet34"))
    known = [*(key for key in inspect.signature(net).parameters if key not in (*_OURS, "kwargs")), WEIGHTS_FILE]
    for key in options:
        if key in _OURS:
            raise ConfigError(f"net option '{key}' of 'smp:{name}' cannot be set: {_OURS[key]}")
        # Encoders of timm, "tu-NAME", take options of their own.
        if key not in known and not encoder.startswith("tu-"):
            raise ConfigError(f"net 'smp:{name}' has no option '{key}': {nearest(key, known)}")
    if encoder not in encoders and not encoder.startswith("tu-"):
        raise ConfigError(f"net option 'encoder_name': there is no encoder '{encoder}': {nearest(encoder, encoders)}")


def _load(encoder: Any, file: Path, channels: int) -> None:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        encoder.load_state_dict(state)
        encoder.set_in_channels(channels, pretrained=True)
    except Exception as error:  # each format has errors of its own
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"net option '{WEIGHTS_FILE}': {file} cannot be used ({reason}), expected a state dict of this encoder "
            "(torch.save or safetensors); check the file and encoder_name"
        ) from error


def _zoo() -> Any:
    """Return the package, imported without what it says about other packages.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _import_torchvision()
            import segmentation_models_pytorch as zoo
    except ImportError as error:
        raise ConfigError(f"nets 'smp:NAME' need more packages ({error}): pip install 'semivox[pictures]'") from error
    return zoo


def _import_torchvision() -> None:
    """Import torchvision also where its build is not torch's.

    The one on PyPI is for CUDA. Beside a torch for CPUs its compiled operators do not load, and its import fails since
    two of their names are not known. No net here calls an operator, so the names are all that is needed.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
