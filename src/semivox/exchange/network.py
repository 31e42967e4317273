"""The net of a run as a program: traced as its method predicts, written as ONNX or for torch, and checked."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from semivox.errors import MissingExtraError, RunError, reason
from semivox.ops.windows import mirrored
from semivox.prediction.predictor import Predictor

TOLERANCE = 1e-4
"""By how much a probability of the written net may differ from the run's own."""
SOURCES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
"""What a traced node keeps of the files that it was traced from: paths of the machine."""


class WindowNet(nn.Module):
    """What a run makes of windows: as its method predicts, the mean over mirrored ones where its config says so.

    Args:
        predictor: of the run, on the CPU.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        config = predictor.run.config
        self.method = predictor.method
        self.mirror = tuple(range(config.dims)) if config.predict.mirror else ()
        self.shape = (len(predictor.run.facts["channels"]), *config.patch)
        for weight in self.parameters():  # channels-last is an order for training
            weight.requires_grad_(False).data = weight.data.contiguous()

    def forward(self, windows: Tensor) -> Tensor:
        """Return the class probabilities (N, K, *patch) of windows (N, C, *patch)."""
        return mirrored(self.method.predict, windows, self.mirror)


def traced(net: WindowNet) -> ExportedProgram:
    """Return the net as a traced program for any number of windows, with the weights alone that predict.

    Raises:
        RunError: the method's `predict` does what cannot be traced.
    """
    example = torch.zeros(2, *net.shape)
    with _quietly("its net cannot be traced"):
        module = _export(net, example).module(check_guards=False)
        for node in list(module.graph.nodes):
            if node.op == "get_attr" and not node.users:  # teachers, critics and banks that do not predict
                module.graph.erase_node(node)
        module.delete_all_unused_submodules()
        module.recompile()
        program = _export(module, example)
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            for key in SOURCES:
                node.meta.pop(key, None)
    program.example_inputs = None
    return program


def _export(net: nn.Module, example: Tensor) -> ExportedProgram:
    return torch.export.export(net, (example,), dynamic_shapes={"windows": {0: Dim("count")}})


def write_torch(program: ExportedProgram, net: WindowNet, path: Path) -> None:
    """Write the program for ``torch.export.load``, and see that it gives what the run gives.

    Raises:
        RunError: it does not.
    """
    with _quietly("its net cannot be written for torch"):
        torch.export.save(program, path)
        written = torch.export.load(path).module()
    _check(lambda windows: written(windows), net)


def write_onnx(program: ExportedProgram, net: WindowNet, path: Path) -> None:
    """Write the program as ONNX, and see that onnxruntime makes of it what the run gives.

    Raises:
        MissingExtraError: the extra `export` is not installed.
        RunError: it does not; or the net has what ONNX lacks.
    """
    refuse_without_onnx()
    import onnxruntime

    with _quietly("its net cannot be written as ONNX"):
        made = torch.onnx.export(program, dynamo=True, verbose=False)
        if made is None:
            raise RuntimeError("torch made nothing of it")
        path.write_bytes(made.model_proto.SerializeToString())
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _check(lambda windows: torch.from_numpy(session.run(None, {"windows": windows.numpy()})[0]), net)


def refuse_without_onnx() -> None:
    """Refuse to go on where the packages that write and run ONNX are not there.

    Raises:
        MissingExtraError: they are not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"ONNX needs more packages ({error}): pip install 'semivox[export]'") from error


def _check(written: Callable[[Tensor], Tensor], net: WindowNet) -> None:
    """Refuse a written net whose probabilities are not the run's, on windows of noise, one and several at once."""
    generator = torch.Generator().manual_seed(0)
    for count in (1, 3):
        windows = torch.randn(count, *net.shape, generator=generator)
        with torch.no_grad():
            most = float((written(windows) - net(windows)).abs().max())
        if not most <= TOLERANCE:  # NaN is none
            raise RunError(
                f"the written net gives probabilities that differ from the run's by {most:.2g}, expected at most "
                f"{TOLERANCE}: nothing is exported; please report it with the run's config.toml"
            )


@contextmanager
def _quietly(what: str) -> Iterator[None]:
    """Keep what torch says about itself from the user, and turn what it raises into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RunError:
        raise
    except Exception as error:  # torch's exporters raise whatever a net of any package makes them
        raise RunError(f"{what} ({reason(error):.300}): export a run of another net or method") from error
