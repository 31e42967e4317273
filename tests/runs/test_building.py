"""From a config to Fabric: half precision where the device has it, and buffers that stay each rank's own."""

import warnings

import pytest
import torch
from lightning_fabric.strategies import DDPStrategy

from semivox.errors import ConfigError
from semivox.runs.building import _precision, _Ranks


@pytest.mark.parametrize(
    ("wanted", "cuda", "bf16", "expected"),
    [
        ("auto", False, False, "32-true"),
        ("auto", True, True, "bf16-mixed"),
        ("auto", True, False, "16-mixed"),  # emulated bf16 is slower than fp32
        ("16", True, True, "16-mixed"),
        ("32", True, True, "32-true"),
        ("bf16", True, True, "bf16-mixed"),
    ],
)
def test_half_precision_is_what_the_gpu_has(wanted, cuda, bf16, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bf16)
    assert _precision(wanted, cuda) == expected


def test_half_precision_that_would_be_slow_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(ConfigError, match=r"precision = 'bf16': this GPU would only emulate it.*use '16' or 'auto'"):
        _precision("bf16", cuda=True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    for wanted in ("bf16", "16"):
        with pytest.raises(ConfigError, match=f"precision = '{wanted}' is many times slower than 32 on this CPU"):
            _precision(wanted, cuda=False)


def test_a_cpu_with_bf16_instructions_has_bf16_when_asked_and_no_fp16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert (_precision("bf16", cuda=False), _precision("auto", cuda=False)) == ("bf16-mixed", "32-true")
    with pytest.raises(ConfigError, match="precision = '16' is many times slower"):
        _precision("16", cuda=False)


def test_of_what_ddp_warns_only_its_word_for_rank_local_buffers_is_passed_over(monkeypatch):
    def setup_module(self, module):
        warnings.warn("`broadcast_buffers` is deprecated. Use `forward_sync_buffers` instead.", FutureWarning, 2)
        warnings.warn("something else", FutureWarning, 2)
        return module

    monkeypatch.setattr(DDPStrategy, "setup_module", setup_module)
    with pytest.warns(FutureWarning) as warned:
        _Ranks(broadcast_buffers=False).setup_module(torch.nn.Linear(1, 1))
    assert [str(warning.message) for warning in warned] == ["something else"]
