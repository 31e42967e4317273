"""What a method's forward returns is Terms of scalar tensors, or one line says what it returned and where."""

import pytest

from semivox.errors import MethodError

FILE = '''"""Odd: a forward that returns what it should not."""
import torch
from semivox.methods.base import Method, MethodConfig
from semivox.types import Terms


class Config(MethodConfig):
    """Nothing of its own."""


class Odd(Method):
    """It learns nothing."""

    def __init__(self, make_net, config):
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch, progress):
        loss = self.student(batch.image_l).mean()
        return RETURNED

    def predict(self, image):
        return self.student(image).softmax(1)
'''


@pytest.mark.parametrize(("returned", "told"), [
    ("loss", "returned a Tensor, expected semivox.types.Terms"),
    ("None", "returned a NoneType, expected"),
    ("{'loss': loss}", "returned a dict, expected"),
    ("Terms({})", "returned Terms whose losses are {}, expected"),
    ("Terms([loss])", "returned Terms whose losses are "),
    ("Terms({'one': 0.5})", "returned Terms whose losses['one'] is a float, expected"),
    ("Terms({'one': loss, 'two': loss[None]})", "returned Terms whose losses['two'] is a Tensor of shape (1,), expect"),
    ("Terms({'one': loss}, {'seen': 3})", "returned Terms whose shown['seen'] is a int, expected"),
])  # fmt: skip
def test_anything_but_terms_of_scalars_is_told_in_one_line_with_its_place(returned, told, train_toy, tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(FILE.replace("RETURNED", returned))
    with pytest.raises(MethodError) as stopped:
        train_toy(tmp_path / "run", method=file, settings={"steps": 1})
    assert f"odd.py, line 18: Odd.forward {told}" in " ".join(str(stopped.value).split())
