"""What a method remembers of earlier steps, on the device: the newest rows, first in, first out."""

from typing import Any

import torch
from torch import Tensor, nn

from semivox.errors import ConfigError
from semivox.ops.fields import per_item


class Queue(nn.Module):
    """The newest `size` rows of any shape.

    Attributes:
        rows: (size, *shape) of `dtype`; zero where nothing was written yet.
        written: () int64, rows pushed so far.
    """

    rows: Tensor
    written: Tensor

    def __init__(self, size: int, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if size < 1:
            raise ConfigError(f"a queue of {size} rows: expected 1 or more")
        self.register_buffer("rows", torch.zeros(size, *shape, dtype=dtype))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """(size,) bool: which rows hold something."""
        return torch.arange(len(self.rows), device=self.rows.device) < self.written

    @torch.no_grad()
    def push(self, rows: Tensor, keep: Tensor) -> None:
        """Write the rows (N, *shape) where `keep` (N,) is True over the oldest ones; of more than fit the last stay."""
        order, places, wanted = _newest(keep[None], self.written[None], len(self.rows))
        order, places, wanted = order[0], places[0], per_item(wanted[0], rows)
        self.rows.index_copy_(0, places, torch.where(wanted, rows[order].to(self.rows.dtype), self.rows[places]))
        self.written += keep.sum()


class ClassBanks(nn.Module):
    """One ring of feature vectors for each class, all of one size; every row keeps the cell that it came from.

    `features`, `class_ids` and `cell_ids` list the rows of all classes, so that `semivox.ops.sampling.draw` draws from
    banks as it does from images: of="others" gives the other classes' features, every filled row alike.

    Attributes:
        rows: (K, size, D) float32.
        cells: (K, size) int64.
        written: (K,) int64, rows of each class pushed so far.
    """

    rows: Tensor
    cells: Tensor
    written: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        if size < 1:
            raise ConfigError(f"banks of {size} rows: expected 1 or more")
        self.register_buffer("rows", torch.zeros(classes, size, width))
        self.register_buffer("cells", torch.zeros(classes, size, dtype=torch.int64))
        self.register_buffer("written", torch.zeros(classes, dtype=torch.int64))
        self._several = False

    @property
    def several(self) -> bool:
        """Whether two classes or more are remembered. A GPU is waited for until it is so, and never again."""
        self._several = self._several or int((self.written > 0).sum()) > 1
        return self._several

    @property
    def features(self) -> Tensor:
        """(K * size, D), class after class."""
        return self.rows.flatten(0, 1)

    @property
    def class_ids(self) -> Tensor:
        """(K * size,) int64: the class of a row; K, which is none, where nothing was written yet."""
        classes, size = self.cells.shape
        filled = torch.arange(size, device=self.cells.device) < self.written[:, None]
        return torch.arange(classes, device=self.cells.device)[:, None].where(filled, classes).flatten()

    @property
    def cell_ids(self) -> Tensor:
        """(K * size,) int64."""
        return self.cells.flatten()

    @property
    def fill(self) -> Tensor:
        """(K,) float32: the part of each bank that holds features."""
        size = self.cells.shape[1]
        return self.written.clamp(max=size) / size

    @torch.no_grad()
    def push(self, features: Tensor, cells: Tensor, keep: Tensor) -> None:
        """Write features (K, N, D) with their cells (K, N) over each class's oldest, where `keep` (K, N) is True.

        Of more than fit, the last stay.
        """
        order, places, wanted = _newest(keep, self.written, self.cells.shape[1])
        self.cells.scatter_(1, places, torch.where(wanted, cells.gather(1, order), self.cells.gather(1, places)))
        wide = (..., None)
        places, order = (index[wide].expand(-1, -1, self.rows.shape[2]) for index in (places, order))
        found = features.to(self.rows.dtype).gather(1, order)
        self.rows.scatter_(1, places, torch.where(wanted[wide], found, self.rows.gather(1, places)))
        self.written += keep.sum(1)

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._several = False


def _newest(keep: Tensor, written: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return (K, min(N, size)) which rows a ring takes, where they go, and which of them are wanted at all.

    How many are kept a GPU alone knows, and need not be asked: a row that is not wanted writes back what is there.

    Args:
        keep: (K, N) bool.
        written: (K,) rows so far.
        size: of each ring.
    """
    order = keep.int().argsort(dim=1, stable=True)[:, -size:]  # kept rows last
    behind = torch.arange(-order.shape[1], 0, device=order.device)
    # The last kept row comes to the newest place; the others to the places before.
    places = (written[:, None] + keep.sum(1, keepdim=True) + behind) % size
    return order, places, keep.gather(1, order)


def gathered(x: Tensor) -> Tensor:
    """Return rows (N, ...) of all processes one after another, without gradient; `x` itself where there is one.

    Every process must hold as many rows.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    x = x.detach().contiguous()
    parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, x)
    return torch.cat(parts)
