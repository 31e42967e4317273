"""Where scans lie in what a run has learned: a vector per scan, and a map of them in two dimensions.

    python examples/embedding.py RUN SCANS -o embedding

The vector is the mean of the encoder's bottleneck over the scan. `embedding` then holds vectors.csv and map.png: look
there for scans that lie apart from the others, before a model is trusted with them.
"""

import argparse
from pathlib import Path

import numpy as np

from semivox import Predictor
from semivox.data.dataset import list_scans
from semivox.data.volume import read_image
from semivox.selection.embedding import embed


def vectors_of(run: Path, scans: list[Path]) -> dict[str, np.ndarray]:
    """Return the vector (D,) float32 of each scan by name; D is the width of the net's bottleneck."""
    predictor = Predictor(run)
    found = list_scans(scans, predictor.recipe.channels)
    return {name: embed(predictor, predictor.prepared(read_image(files), case=name)) for name, files in found.items()}


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors (N, D) on their first two principal axes, (N, 2), and the share of the variance on each."""
    u, s, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    return u[:, :2] * s[:2], s[:2] ** 2 / max((s**2).sum(), 1e-12)


def write_map(vectors: dict[str, np.ndarray], output: Path) -> None:
    """Write vectors.csv and map.png."""
    from matplotlib.figure import Figure

    output.mkdir(parents=True, exist_ok=True)
    rows = [",".join([name, *(f"{value:.6g}" for value in vector)]) for name, vector in vectors.items()]
    (output / "vectors.csv").write_text("\n".join(rows) + "\n")
    points, shares = principal_axes(np.stack(list(vectors.values())))
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    axes.scatter(*points.T)
    for name, point in zip(vectors, points, strict=True):
        axes.annotate(name, point, fontsize=7)
    axes.set_xlabel(f"first principal axis, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {shares[1]:.0%}")
    figure.savefig(output / "map.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("scans", type=Path, nargs="+", help="files or folders of scans, three scans or more")
    parser.add_argument("-o", "--output", type=Path, default=Path("embedding"))
    given = parser.parse_args()
    vectors = vectors_of(given.run, given.scans)
    if len(vectors) < 3:
        raise SystemExit(f"found {len(vectors)} scans: a map needs three or more")
    write_map(vectors, given.output)
    print(f"{len(vectors)} scans, {len(next(iter(vectors.values())))} numbers each: {given.output}")


if __name__ == "__main__":
    main()
