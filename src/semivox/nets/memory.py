"""Embeddings that learn beside a net, their teachers, and what is remembered of earlier steps (MONA, ARCO, ACTION)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from semivox.nets.embedding import PixelHead, RelationHead
from semivox.nets.net import Decoded, Features
from semivox.ops.anatomy import Contrast, Draws, Keys, Pixels, anatomical_contrast
from semivox.ops.contrast import nearest_neighbours, relational_distillation
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.queue import ClassBanks, Queue, gathered
from semivox.ops.sampling import cell_mirrors, grid_cells
from semivox.ops.slices import coarse_mask, listed, masked_pool, strided

SIDE = {2: 8, 3: 4}
"""Cells along each axis that an image's embedding is pooled to, before it is one vector."""


class Relation(nn.Module):
    """Relations of images, and of their windows, to a memory of earlier ones (first stage).

    Attributes:
        student: the head that learns.
        teacher: its moving average, without the predictors.
        images: queue of the teacher's global embeddings.
        windows: queue of its local embeddings.
    """

    def __init__(self, head: RelationHead, memory: int) -> None:
        super().__init__()
        self.student, self.teacher = head, make_teacher(head)
        self.images, self.windows = Queue(memory, head.latent), Queue(memory, *head.local_size)
        self._newest: tuple[Tensor, ...] | None = None

    def losses(
        self,
        student: tuple[Features, Decoded],
        teacher: tuple[Features, Decoded],
        valid: Tensor,
        *,
        tau_s: float,
        tau_t: float,
    ) -> tuple[Tensor, Tensor]:
        """Return L_inst of images and of windows, and keep the teacher's embeddings for `after_step`.

        Args:
            student: what encode and decode of the student gave for the images.
            teacher: the teacher's, for another view of them in the same geometry.
            valid: (B, *spatial) bool.
            tau_s: temperature of the student's similarities.
            tau_t: temperature of the teacher's.
        """
        whole_s, local_s = self.student(student[0]["bottleneck"], student[1].logits, valid, predict=True)
        with torch.no_grad():
            whole_t, local_t = self.teacher(teacher[0]["bottleneck"], teacher[1].logits, valid, predict=False)
        held = valid.flatten(1).any(1)
        self._newest = whole_t, local_t.transpose(0, 1), held
        # Instance norm leaves the means of channels, of which these embeddings are made, nearly alike in all images: as
        # they are, every cosine is 1. So they are seen from the centre of what is remembered.
        filled = self.images.filled
        centre = self.images.rows.sum(0) / filled.sum().clamp(min=1)
        of_images = relational_distillation(
            whole_s - centre, whole_t - centre, self.images.rows - centre, filled, held, tau_s=tau_s, tau_t=tau_t
        )
        windows = self.windows.rows.transpose(0, 1)
        of_windows = relational_distillation(
            local_s, local_t, windows, self.windows.filled, held, tau_s=tau_s, tau_t=tau_t
        )
        return of_images, of_windows

    def after_step(self, decay: float) -> None:
        """Move the teacher and remember the step's images."""
        ema_update(self.teacher, self.student, decay)
        if self._newest is not None:
            whole, local, held = (gathered(x) for x in self._newest)
            self.images.push(whole, held)
            self.windows.push(local, held)
        self._newest = None


class Volumes(nn.Module):
    """The newest volumes' embeddings and the cases that they are crops of: other cases are negatives, a case's own not.

    Attributes:
        embeddings: queue of (D,).
        cases: queue of numbers of cases.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embeddings, self.cases = Queue(size, width), Queue(size, dtype=torch.int64)

    def others(self, u: Tensor, case: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch's volumes and the remembered ones, and which of them are of another case than each volume.

        Args:
            u: (M, D) embeddings of the batch's volumes.
            case: (M,) int64, their cases.
            held: (M,) bool; volumes that count.

        Returns:
            Rows (M + size, D), and (M, M + size) bool.
        """
        unlike = case[:, None] != torch.cat([case, self.cases.rows])
        return torch.cat([u, self.embeddings.rows]), unlike & torch.cat([held, self.embeddings.filled])

    def push(self, u: Tensor, case: Tensor, held: Tensor) -> None:
        """Remember the volumes of a batch that count."""
        self.embeddings.push(u, held)
        self.cases.push(case, held)


class Part(NamedTuple):
    """Some images of a step: what both nets made of them, and which of their pixels take part as what.

    Roles are (B, *grid) int64 on the grid of the embeddings, a pixel's class where it takes part, K where it does not.

    Attributes:
        student: what the student decoded.
        teacher: what the teacher decoded.
        valid: (B, *spatial) bool.
        anchors: whose class may be asked for.
        prototypes: what a class's mean is made of.
        keys: what is remembered as a class's feature.
    """

    student: Decoded
    teacher: Decoded
    valid: Tensor
    anchors: Tensor
    prototypes: Tensor
    keys: Tensor


class Anatomy(nn.Module):
    """Contrast of pixels with the prototypes of their classes, and nearness of images to their neighbours.

    Attributes:
        student: the head that learns.
        teacher: its moving average, without the predictor.
        banks: the teacher's embeddings of pixels, by class.
        images: queue of its embeddings of images.
    """

    def __init__(self, head: PixelHead, classes: int, draws: Draws, *, bank: int, memory: int) -> None:
        super().__init__()
        self.student, self.teacher, self.draws = head, make_teacher(head), draws
        self.banks = ClassBanks(classes, bank, head.width)
        if draws.rule == "released":
            self.banks.written += 1  # the row of zeros that the released banks start from
        self.side = (SIDE[head.dims],) * head.dims
        self.images = Queue(memory, head.width * SIDE[head.dims] ** head.dims)
        self._newest: tuple[Keys, tuple[Tensor, Tensor] | None] | None = None

    def losses(
        self,
        parts: Sequence[Part],
        generator: torch.Generator,
        *,
        grid: Sequence[int],
        mirror: Literal["rank", "space"],
        neighbours: int,
    ) -> tuple[Contrast, Tensor | None]:
        """Return L_contrast and L_nn, if there are neighbours, and keep what `after_step` remembers.

        Args:
            parts: all images of the step.
            generator: decides which pixels are drawn.
            grid: cells of the sampling grid along each axis.
            mirror: what pairs of "sag" are opposite in, the list of their stratum or the cell.
            neighbours: images that each image moves to; 0 for none.
        """
        h_s = torch.cat([self.student(part.student.features) for part in parts])
        with torch.no_grad():
            h_t = torch.cat([self.teacher(part.teacher.features) for part in parts])
        roles = (torch.cat([getattr(part, role) for part in parts]) for role in ("anchors", "prototypes", "keys"))
        anchors, prototypes, keys = (role.flatten() for role in roles)
        size, device = h_s.shape[2:], h_s.device
        cells = grid_cells(len(h_s), size, grid, device=device).flatten()
        mirrors = cell_mirrors(len(h_s), size, grid, device=device).flatten() if mirror == "space" else None
        pixels = Pixels(listed(h_s), listed(h_t), anchors, prototypes, keys, cells, mirrors)
        contrast = anatomical_contrast(
            pixels, self.banks, self.draws, generator, embed_s=self._embed_s, embed_t=self._embed_t
        )
        if not neighbours:
            self._newest = contrast.keys, None
            return contrast, None
        valid = strided(torch.cat([part.valid for part in parts]), self.student.strides)
        near, z_t, held = self._nearness(h_s, h_t, valid, neighbours)
        self._newest = contrast.keys, (z_t, held)
        return contrast, near

    def _nearness(
        self, h_s: Tensor, h_t: Tensor, valid: Tensor, neighbours: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return L_nn, the teacher's embeddings of images, and which images hold something valid."""
        # Zero where nothing is valid, lest images be alike by the embedding of nothing.
        there = coarse_mask(valid, torch.Size(self.side)).unsqueeze(-1)
        z_s, z_t = (
            (head.embed_images(masked_pool(h, valid, self.side).movedim(1, -1), predict=predict) * there).flatten(1)
            for head, h, predict in ((self.student, h_s, True), (self.teacher, h_t, False))
        )
        held = valid.flatten(1).any(1)
        near = nearest_neighbours(z_s, z_t, self.images.rows, self.images.filled, held, neighbours=neighbours)
        return near, z_t, held

    def _embed_s(self, pixels: Tensor) -> Tensor:
        return self.student.embed(pixels, predict=True)

    @torch.no_grad()
    def _embed_t(self, pixels: Tensor) -> Tensor:
        return self.teacher.embed(pixels, predict=False)

    def after_step(self, decay: float) -> None:
        """Move the teacher and remember the step's pixels and images."""
        ema_update(self.teacher, self.student, decay)
        if self._newest is not None:
            keys, images = self._newest
            keys.push(self.banks)
            if images is not None:
                self.images.push(*(gathered(x) for x in images))
        self._newest = None
