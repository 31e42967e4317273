"""What differs between the scans of a pool: the scanners of the phantom, its anatomies, and which scan has which.

Pools come from several hospitals, and their few labels from one of them: a scanner with more noise and a softer image,
one whose coil shades the image, a protocol with less contrast agent; patients who lie turned, or whose chamber is
dilated.
The labelled scans of a phantom have the first `COVERED` scanners and the usual anatomy, all others have every
combination equally often.
"""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Scanner:
    """Ranges that a scanner's images are drawn from; blood is 0.6 to 1.

    Attributes:
        name: what reports call it.
        muscle: brightness of the heart's wall, as a part of the blood's.
        fat: brightness of what lies around the heart.
        bias: size of the bias field, in the exponent.
        noise: standard deviation of the Rician noise's two parts.
        blur: standard deviation of the point spread within a slice, in mm.
    """

    name: str
    muscle: Range = (0.35, 0.6)
    fat: Range = (0.2, 0.75)
    bias: Range = (0.1, 0.3)
    noise: Range = (0.04, 0.1)
    blur: float = 0.0


@dataclass(frozen=True)
class Anatomy:
    """How patients of a kind differ from the usual ones.

    Attributes:
        name: what reports call it.
        turn: degrees by which the patient is turned about the long axis of the body, beyond everybody's few.
        dilation: factor on the chamber's radii.
    """

    name: str
    turn: Range = (0.0, 0.0)
    dilation: Range = (1.0, 1.0)


SCANNERS = (
    Scanner("usual scanner"),
    Scanner("low field", noise=(0.12, 0.18), blur=1.2),
    Scanner("little contrast agent", muscle=(0.6, 0.75)),
    Scanner("surface coil", bias=(0.4, 0.6)),
)
ANATOMIES = (
    Anatomy("usual anatomy"),
    Anatomy("turned patient", turn=(15.0, 40.0)),
    Anatomy("dilated chamber", dilation=(1.2, 1.4)),
)
COVERED = 2
"""scanners that labelled scans come from."""


def kind_of(index: int, *, labelled: bool) -> tuple[Scanner, Anatomy]:
    """Return the scanner and the anatomy of a phantom's scan; `labelled`: of one to train on with its label."""
    if labelled:
        return SCANNERS[index % COVERED], ANATOMIES[0]
    return SCANNERS[index % len(SCANNERS)], ANATOMIES[index // len(SCANNERS) % len(ANATOMIES)]
