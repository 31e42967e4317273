"""Heads with their teachers and memories: what they compare, what they remember, and when."""

import pytest
import torch

from semivox.nets.build import MakeNet
from semivox.nets.embedding import PixelHead, RelationHead
from semivox.nets.memory import Anatomy, Part, Relation, Volumes
from semivox.ops.anatomy import Draws

TAUS = {"tau_s": 0.1, "tau_t": 0.1}
HOW = {"grid": (4, 4), "mirror": "rank", "neighbours": 2}


@pytest.fixture
def net():
    torch.manual_seed(0)  # of the heads
    return MakeNet("vnet", dims=2, channels=1, classes=3, filters=2, levels=4, dropout=0.0)()


def view(net, images=2, seed=0):
    """Return what encode and decode give for random images."""
    features = net.encode(torch.randn(images, 1, 32, 32, generator=torch.Generator().manual_seed(seed)))
    return features, net.decode(features)


def everywhere(images=2):
    return torch.ones(images, 32, 32, dtype=torch.bool)


# Relations of images


def compared(relation, net, *, seed=0, valid=None, decay=0.5, taus=TAUS):
    """Return both losses of a step on two images, which are then remembered."""
    valid = everywhere() if valid is None else valid
    losses = relation.losses(view(net, len(valid), seed), view(net, len(valid), seed), valid, **taus)
    relation.after_step(decay)
    return losses


def test_the_first_images_have_no_relations_and_the_next_ones_have(net):
    relation = Relation(RelationHead(net, 10), 5)
    assert compared(relation, net) == (0, 0)
    assert all(loss > 0 for loss in compared(relation, net, seed=1))


@pytest.mark.parametrize("kept", [[True, False], [False, False]])
def test_images_are_remembered_behind_the_step_by_the_teacher_and_only_with_something_valid(net, kept):
    relation = Relation(RelationHead(net, 10), 5)
    valid = everywhere() & torch.tensor(kept)[:, None, None]
    features, decoded = view(net)
    relation.losses((features, decoded), (features, decoded), valid, **TAUS)
    assert relation.images.written == relation.windows.written == 0
    whole, local = relation.teacher(features["bottleneck"], decoded.logits, valid, predict=False)
    relation.after_step(0.5)
    assert relation.images.written == relation.windows.written == sum(kept)
    torch.testing.assert_close(relation.images.rows[: sum(kept)], whole[kept])
    torch.testing.assert_close(relation.windows.rows[: sum(kept)], local[:, kept].transpose(0, 1))
    relation.after_step(0.5)  # nothing new
    assert relation.images.written == sum(kept)


def test_equal_heads_and_temperatures_have_equal_relations(net):
    """T16."""
    relation = Relation(RelationHead(net, 10), 5)
    for head in (relation.student, relation.teacher):
        head.predict = head.predict_local = torch.nn.Identity()
    compared(relation, net)
    for loss in compared(relation, net, seed=1, decay=1.0):
        assert loss.item() == pytest.approx(0, abs=1e-6)
    assert compared(relation, net, seed=2, taus={"tau_s": 0.1, "tau_t": 0.01})[1] > 0


def test_relations_are_seen_from_the_centre_of_what_is_remembered(net):
    """An offset that all images share is nothing; as cosines they would be 1."""
    relation = Relation(RelationHead(net, 10), 5)
    for head in (relation.student, relation.teacher):
        head.predict = torch.nn.Identity()
    taus = {"tau_s": 0.1, "tau_t": 0.01}
    compared(relation, net, decay=1.0)
    seen, taught = view(net, seed=1), view(net, seed=2)
    loss, _ = relation.losses(seen, taught, everywhere(), **taus)
    for head in (relation.student, relation.teacher):
        head.project[-1].bias.data += 1
    relation.images.rows[:2] += 1
    moved, _ = relation.losses(seen, taught, everywhere(), **taus)
    assert loss > 0.01
    torch.testing.assert_close(moved, loss, rtol=1e-3, atol=0)


def test_both_relations_teach_the_students_head_and_net_and_no_teacher(net):
    relation = Relation(RelationHead(net, 10), 5).requires_grad_(True)
    compared(relation, net)
    sum(compared(relation, net, seed=1)).backward()
    assert all(weight.grad is not None for weight in relation.student.parameters())
    assert all(weight.grad is None for weight in relation.teacher.parameters())
    assert all(weight.grad is not None for weight in net.parameters())


def test_the_teacher_follows_the_student(net):
    relation = Relation(RelationHead(net, 10), 5)
    weight = relation.teacher.project[0].weight
    before = weight.clone()
    relation.student.project[0].weight.data += 1
    relation.after_step(0.75)
    torch.testing.assert_close(weight, before + 0.25)


# Pixels and neighbours


def make_anatomy(net, *, rule="paper", memory=6, bank=40):
    draws = Draws("sg", 16, 4, "bank", rule, 0.5)
    return Anatomy(PixelHead(net, 12), 3, draws, bank=bank, memory=memory)


def make_part(net, *, seed=0, valid=None, label=None):
    """Return two images, all of whose valid pixels take part as what they are labelled."""
    valid = everywhere() if valid is None else valid
    random = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (2, 8, 8), generator=random) if label is None else label
    roles = [torch.where(valid[:, 2::4, 2::4], label, 3)] * 3
    _, decoded = view(net, seed=seed)
    return Part(decoded, decoded, valid, *roles)


def contrasted(anatomy, *parts, seed=0, decay=0.5, **how):
    """Return both losses of a step, whose pixels and images are then remembered."""
    contrast, near = anatomy.losses(parts, torch.Generator().manual_seed(seed), **(HOW | how))
    anatomy.after_step(decay)
    return contrast.loss, near


def test_pixels_and_images_are_remembered_behind_the_step(net):
    anatomy = make_anatomy(net)
    anatomy.losses([make_part(net), make_part(net, seed=1)], torch.Generator(), **HOW)
    assert anatomy.images.written == 0
    assert anatomy.banks.written.tolist() == [0, 0, 0]
    anatomy.after_step(0.5)
    assert anatomy.images.written == 4
    assert anatomy.banks.written.tolist() == [16, 16, 16]
    anatomy.after_step(0.5)  # nothing new
    assert anatomy.images.written == 4


def test_no_neighbour_is_near_until_there_are_enough(net):
    anatomy = make_anatomy(net)
    first, second, third = (contrasted(anatomy, make_part(net, seed=seed), neighbours=3)[1] for seed in range(3))
    assert first == second == 0
    assert third > 0


def test_what_remains_of_a_step_holds_no_graph(net):
    anatomy = make_anatomy(net)
    anatomy.losses([make_part(net)], torch.Generator(), **HOW)
    keys, images = anatomy._newest
    assert not any(x.requires_grad for x in (*keys, *images))


def test_pixels_and_neighbours_teach_the_students_head_and_net_and_no_teacher(net):
    anatomy = make_anatomy(net).requires_grad_(True)
    contrasted(anatomy, make_part(net))
    for loss in contrasted(anatomy, make_part(net, seed=1)):
        learning = [*anatomy.student.parameters(), *(p for p in net.parameters())]
        gradients = torch.autograd.grad(loss, learning, retain_graph=True, allow_unused=True)
        assert sum(g is not None and g.abs().sum() > 0 for g in gradients) > len(list(anatomy.student.parameters()))
        taught = torch.autograd.grad(loss, list(anatomy.teacher.parameters()), retain_graph=True, allow_unused=True)
        assert taught == (None,) * len(taught)


def test_images_without_a_valid_voxel_are_not_remembered_and_change_no_loss(net):
    valid = everywhere()
    valid[1] = False
    anatomy, other = make_anatomy(net), make_anatomy(net)
    other.load_state_dict(anatomy.state_dict())
    losses = {}
    for memory, change in ((anatomy, 0), (other, 5)):
        for seed in range(3):
            part = make_part(net, seed=seed, valid=valid)
            for decoded in (part.student, part.teacher):
                for feature in decoded.features:
                    feature.data[1] += change * torch.randn_like(feature[1])
            losses[change] = contrasted(memory, part, seed=seed)
    assert anatomy.images.written == 3
    assert losses[0] == losses[5]


def test_what_is_not_valid_in_an_image_makes_it_no_nearer(net):
    """Empty cells are zero, whatever the head makes of nothing."""
    valid = everywhere()
    valid[:, :, :16] = False
    anatomy = make_anatomy(net)
    anatomy.losses([make_part(net, valid=valid)], torch.Generator(), **HOW)
    _, (z, _) = anatomy._newest
    z = z.reshape(2, 8, 8, 12)
    assert not z[:, :, :4].any()
    assert z[:, :, 4:].abs().sum(-1).all()


def test_released_banks_start_from_a_row_of_zeros(net):
    anatomy = make_anatomy(net, rule="released")
    assert anatomy.banks.written.tolist() == [1, 1, 1]
    assert not anatomy.banks.rows.any()
    assert anatomy.banks.class_ids.bincount(minlength=4).tolist() == [1, 1, 1, 3 * 39]


def test_the_state_alone_holds_all_that_is_remembered(net):
    first, second = make_anatomy(net), make_anatomy(net)
    for seed in range(3):
        contrasted(first, make_part(net, seed=seed), seed=seed)
    second.load_state_dict(first.state_dict())
    assert contrasted(first, make_part(net, seed=3)) == contrasted(second, make_part(net, seed=3))


# Volumes


def test_other_cases_of_the_batch_and_of_earlier_ones_are_negatives_and_a_volumes_own_case_is_not():
    memory, u = Volumes(3, 2), torch.arange(4.0).reshape(2, 2)
    case, held = torch.tensor([7, 8]), torch.tensor([True, True])
    rows, others = memory.others(u, case, held)
    assert rows.tolist() == [[0, 1], [2, 3], [0, 0], [0, 0], [0, 0]]
    assert others.tolist() == [[False, True, False, False, False], [True, False, False, False, False]]
    memory.push(u, case, held)
    memory.push(-u, torch.tensor([8, 9]), torch.tensor([False, True]))  # the first does not count
    rows, others = memory.others(u, torch.tensor([9, 8]), torch.tensor([True, False]))
    assert rows.tolist() == [[0, 1], [2, 3], [0, 1], [2, 3], [-2, -3]]  # cases 9, 8 now; 7, 8, 9 remembered
    assert others.tolist() == [[False, False, True, True, False], [True, False, True, False, True]]
