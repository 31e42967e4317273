"""What is remembered: the newest rows, whatever the size of a push, and with its cell and class where it has them."""

from collections import deque

import pytest
import torch

from semivox.errors import ConfigError
from semivox.ops.queue import ClassBanks, Queue, gathered
from semivox.ops.sampling import draw


def numbers(*values):
    """Return rows (N, 1)."""
    return torch.tensor(values, dtype=torch.float32)[:, None]


def everything(rows):
    return torch.ones(rows, dtype=torch.bool)


def pushed(queue, *values):
    queue.push(numbers(*values), everything(len(values)))


# Queue


def test_a_queue_fills_from_the_first_place_and_wraps_around_by_hand():
    queue = Queue(3, 1)
    assert queue.filled.tolist() == [False, False, False]
    pushed(queue, 1, 2)
    assert queue.filled.tolist() == [True, True, False]
    pushed(queue, 3, 4)
    assert queue.rows.flatten().tolist() == [4, 2, 3]  # 4 took the place of the oldest
    assert queue.filled.all()


@pytest.mark.parametrize("counts", [(1,) * 11, (2, 3, 4, 2), (3, 3, 3, 2), (11,), (1, 7, 0, 3)])
def test_rows_pushed_together_end_as_rows_pushed_one_by_one(counts):
    single, together = Queue(3, 1), Queue(3, 1)
    values = iter(range(1, 12))
    for count in counts:
        some = [next(values) for _ in range(count)]
        pushed(together, *some)
        for value in some:
            pushed(single, value)
    assert torch.equal(together.rows, single.rows)
    assert together.written == single.written == 11


def test_only_kept_rows_are_remembered():
    queue = Queue(3, 1)
    queue.push(numbers(1, 2, 3, 4), torch.tensor([False, True, False, True]))
    assert queue.rows.flatten().tolist() == [2, 4, 0]
    queue.push(numbers(5), torch.tensor([False]))
    assert queue.written == 2


def test_rows_have_any_shape_and_are_single_precision_without_a_gradient():
    queue = Queue(2, 3, 4)
    rows = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    queue.push(rows, everything(2))
    assert torch.equal(queue.rows, rows.detach().float())
    assert not queue.rows.requires_grad


def test_a_queue_of_numbers_of_cases_keeps_them_whole():
    queue = Queue(3, dtype=torch.int64)
    queue.push(torch.tensor([2**40 + 1, 7]), everything(2))
    assert queue.rows.tolist() == [2**40 + 1, 7, 0]


def test_the_state_alone_says_where_to_write_on():
    first, second = Queue(3, 1), Queue(3, 1)
    pushed(first, 1, 2, 3, 4)
    second.load_state_dict(first.state_dict())
    pushed(second, 5)
    assert second.rows.flatten().tolist() == [4, 5, 3]


@pytest.mark.parametrize("make", [lambda: Queue(0, 1), lambda: ClassBanks(2, 0, 1)])
def test_a_memory_of_nothing_is_refused(make):
    with pytest.raises(ConfigError, match="0 rows: expected 1 or more"):
        make()


# ClassBanks


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_banks_keep_the_newest_kept_rows_of_each_class_in_order(size):
    random, banks = torch.Generator().manual_seed(size), ClassBanks(3, size, 2)
    models = [deque(maxlen=size) for _ in range(3)]
    for _ in range(20):
        count = int(torch.randint(7, (), generator=random))
        features = torch.randn(3, count, 2, generator=random)
        cells = torch.randint(99, (3, count), generator=random)
        keep = torch.rand(3, count, generator=random) < 0.5
        banks.push(features, cells, keep)
        for k, model in enumerate(models):
            rows = zip(features[k].tolist(), cells[k].tolist(), keep[k].tolist(), strict=True)
            model.extend((feature, cell) for feature, cell, kept in rows if kept)
            ages = (banks.written[k] - len(model) + torch.arange(len(model))) % size  # the oldest first
            assert list(zip(banks.rows[k, ages].tolist(), banks.cells[k, ages].tolist(), strict=True)) == list(model)
            assert banks.fill[k].item() == pytest.approx(len(model) / size)


def test_a_bank_wraps_around_by_hand_and_leaves_the_other_classes_as_they_are():
    banks = ClassBanks(2, 3, 1)
    for value in (1, 3, 5):
        features = torch.tensor([[[value], [value + 1]], [[-value], [-value - 1]]]).float()
        keep = torch.tensor([[True, True], [value == 1, False]])
        banks.push(features, features[..., 0].abs().long(), keep)
    assert banks.rows[..., 0].tolist() == [[4, 5, 6], [-1, 0, 0]]
    assert banks.cells.tolist() == [[4, 5, 6], [1, 0, 0]]
    assert banks.written.tolist() == [6, 1]
    assert banks.fill.tolist() == pytest.approx([1, 1 / 3])


def test_places_that_hold_nothing_belong_to_no_class():
    banks = ClassBanks(3, 2, 4)
    assert banks.class_ids.tolist() == [3] * 6
    banks.push(torch.ones(3, 1, 4), torch.zeros(3, 1).long(), torch.tensor([[True], [False], [True]]))
    assert banks.class_ids.tolist() == [0, 3, 3, 3, 2, 3]
    assert banks.features.shape == (6, 4)


@pytest.mark.parametrize("scheme", ["naive", "sg", "sag"])
def test_what_is_drawn_for_a_class_is_of_the_others_and_was_written(scheme):
    banks, random = ClassBanks(3, 8, 1), torch.Generator().manual_seed(0)
    kinds = torch.tensor([10.0, 20.0, 30.0])[:, None, None]
    banks.push(kinds.expand(3, 5, 1), torch.arange(15).reshape(3, 5), torch.ones(3, 5, dtype=torch.bool))
    options = {"classes": 3, "count": 200, "scheme": scheme, "generator": random}
    rows, valid = draw(banks.class_ids, banks.cell_ids, of="others", **options)
    assert valid.all()
    for k, found in enumerate(banks.features[rows].squeeze(-1)):
        assert set(found.tolist()) == {10.0, 20.0, 30.0} - {10.0 * (k + 1)}


# Several processes


def test_without_other_processes_rows_come_back_as_they_are():
    x = torch.randn(3, 2, requires_grad=True)
    assert gathered(x) is x


@pytest.fixture
def group(tmp_path):
    """One process that thinks of itself as a group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    "x",
    [
        torch.randn(5, 2, 3),
        torch.randn(4, 3).T,
        torch.randn(3, 6, 2).transpose(0, 1),
        torch.tensor([True, False])[:, None].expand(2, 4).T,
        torch.arange(6).reshape(2, 3),
    ],
    ids=["contiguous", "matrix", "transposed", "mask", "integers"],
)
def test_rows_are_gathered_whatever_their_kind_and_order_in_memory(x):
    assert torch.equal(gathered(x), x)
    assert gathered(x).dtype == x.dtype


@pytest.mark.usefixtures("group")
def test_processes_exchange_tensors_that_lie_in_order_as_those_of_gpus_must(monkeypatch):
    exchange, exchanged = torch.distributed.all_gather, []
    monkeypatch.setattr(torch.distributed, "all_gather", lambda *given: exchanged.append(given) or exchange(*given))
    gathered(torch.randn(3, 6, 2).transpose(0, 1))
    ((parts, mine),) = exchanged
    assert all(x.is_contiguous() for x in (*parts, mine))


@pytest.mark.usefixtures("group")
def test_what_is_gathered_asks_for_no_gradient():
    assert not gathered(torch.randn(3, 2, requires_grad=True)).requires_grad
