"""From a config to objects: the net, the method and the Fabric that a config describes."""

import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from semivox.config.keys import Config, validated
from semivox.errors import ConfigError, RunError
from semivox.methods import list_methods, loaded_own, method_class, shipped_module
from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.segmentation_models import WEIGHTS_FILE


def module_of(config: Config) -> ModuleType:
    """Return the module of a config's method; one of the user's own has been loaded before, by its content.

    Raises:
        UnknownMethodError: semivox ships no such method, and the config has no digest of a file.
        RunError: the file with this digest has not been loaded: see `semivox.runs.trust`.
    """
    if config.method_name in list_methods() or not config.method_digest:
        return shipped_module(config.method_name)
    module = loaded_own(config.method_digest)
    if module is None:
        raise RunError(
            f"the method '{config.method_name}' is a file that semivox does not ship, and it has not been loaded "
            f"(SHA-256 {config.method_digest}): open its run with trust=True, or train with method=FILE"
        )
    return module


def make_method_config(config: Config) -> MethodConfig:
    """Return the checked ``method.*`` fields of a config.

    Raises:
        UnknownMethodError: no such method.
        ConfigError: a field that the method does not have, or a value of the wrong kind.
    """
    module, fields = module_of(config), config.method_fields
    if config.method_name not in list_methods():
        fields.pop("sha256")
    method_config: MethodConfig = validated(module.Config, fields, where=f"method.{config.method_name}")
    return method_config


def make_method(config: Config, facts: Mapping[str, Any], *, stage: str = "train") -> Method:
    """Return a method with fresh weights.

    Args:
        config: the run's config.
        facts: names of ``channels`` and ``classes``.
        stage: the stage whose initial weights are wanted.
    """
    make_net = MakeNet(
        config.net.name,
        dims=config.dims,
        channels=len(facts["channels"]),
        classes=len(facts["classes"]),
        slice_axis=config.slice_axis,
        filters=config.net.filters,
        norm=config.net.norm,
        levels=config.net.levels,
        strides=config.net.strides,
        dropout=config.net.dropout,
        options=config.net.options,
        patch=config.patch,
        seed=config.seed,
        stage=stage,
    )
    method = method_class(module_of(config))(make_net, make_method_config(config))
    if config.precision == "bf16" and not torch.cuda.is_available():
        return method  # on a CPU group norm's backward pass in bf16 is ten times slower in channels-last order
    return as_channels_last(method)


def without_first_weights(config: Config) -> Config:
    """Return the config without the file of a net's first weights: trained ones take their place."""
    options = {key: value for key, value in config.net.options.items() if key != WEIGHTS_FILE}
    return config.model_copy(update={"net": config.net.model_copy(update={"options": options})})


def as_channels_last(method: Method) -> Method:
    """Return the method with its convolution weights in channels-last order, which halves a 3D step on a CPU."""
    for weight in method.parameters():
        if weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return method


def resolve_device(config: Config, device: str) -> tuple[str, str]:
    """Return where a config trains, "cpu" or "cuda", and in which precision, "32", "bf16" or "16".

    Raises:
        ConfigError: an unknown device, or one that is not there; half precision that it does not have.
    """
    cuda = _on_cuda(device)
    return "cuda" if cuda else "cpu", _precision(config.precision, cuda).partition("-")[0]


def make_fabric(config: Config, device: str) -> Fabric:
    """Return a launched Fabric for this process; under torchrun, one of several.

    Raises:
        ConfigError: an unknown device, or one that is not there; half precision that it does not have.
    """
    cuda = _on_cuda(device)
    torch.set_flush_denormal(True)
    precision: Any = _precision(config.precision, cuda)
    if config.determinism == "strict":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.determinism == "strict")
    torch.backends.cudnn.benchmark = config.determinism == "fast"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=local,
        num_nodes=world // local,
        strategy=_Ranks(broadcast_buffers=False) if world > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    return fabric


class _Ranks(DDPStrategy):
    """DDP whose ranks keep their own buffers: rank 0's banks and queues must not overwrite the others'.

    From torch 2.13 on, ``broadcast_buffers`` warns that ``forward_sync_buffers`` takes its place; yet that one still
    overwrites the buffers at the start, and the warning itself says to keep the old one where they are rank-local.
    """

    def setup_module(self, module: torch.nn.Module) -> DistributedDataParallel:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return super().setup_module(module)


def _on_cuda(device: str) -> bool:
    """Return whether a device word means a GPU."""
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = '{device}': expected auto, cpu or cuda (CUDA_VISIBLE_DEVICES chooses)")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': torch finds no GPU here; use auto or cpu")
    return torch.cuda.is_available() if device == "auto" else device == "cuda"


def _precision(wanted: str, cuda: bool) -> str:
    """Return Fabric's word for a precision.

    Raises:
        ConfigError: half precision on a CPU, or bf16 on a GPU that would only emulate it.
    """
    if wanted == "32" or (wanted == "auto" and not cuda):
        return "32-true"
    if not cuda:
        if wanted == "bf16" and torch.cpu._is_avx512_bf16_supported():  # the only public word for it is in no release
            return "bf16-mixed"
        raise ConfigError(
            f"precision = '{wanted}' is many times slower than 32 on this CPU: set it to 'auto'"
            + (" (bf16 needs a processor with AVX-512 BF16)" if wanted == "bf16" else "")
        )
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bf16" and not bf16:
        raise ConfigError("precision = 'bf16': this GPU would only emulate it, slowly: use '16' or 'auto'")
    return "bf16-mixed" if bf16 and wanted != "16" else "16-mixed"
