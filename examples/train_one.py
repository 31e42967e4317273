"""One run from a data folder to scores: split, train, predict, evaluate.

    python examples/train_one.py DATA -o out --labelled 4 --held-out 10

`out` then holds split.json, the run folder, a mask for every held-out scan, scores.csv and scores.json.
"""

import argparse
from pathlib import Path

from semivox import evaluate_masks, make_split, predict, read_dataset, train, write_split


def train_one(
    data: Path,
    output: Path,
    *,
    labelled: int,
    held_out: int,
    method: str = "averaged_match",
    config: str | None = None,
    settings: list[str] | None = None,
) -> list[dict]:
    """Return one row of scores per held-out case and class."""
    split = output / "split.json"
    write_split(make_split(read_dataset(data), labelled=labelled, held_out=held_out), split)
    outcome = train(
        data,
        output=output / "run",
        method=method,
        split=split,
        config=config,
        settings=settings or (),
        cache=output / "cache",
        on_row=lambda row, steps: print(f"step {row['total_step'] + 1} of {steps}: loss {row['total']:.4f}"),
    )
    if not outcome.finished:  # Ctrl-C stops behind a checkpoint
        raise SystemExit(f"stopped; `semivox train {data} -o {outcome.run} --resume` goes on")
    predict([outcome.run], [data], output=output / "masks", held_out=True)
    return evaluate_masks(output / "masks", data / "labelsTr", output / "scores.csv", cases=split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="nnU-Net or Medical Decathlon folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("out"))
    parser.add_argument("--labelled", type=int, default=4, help="labelled cases to train on: the first ones")
    parser.add_argument("--held-out", type=int, default=10, help="labelled cases to test on: the last ones")
    parser.add_argument("--method", default="averaged_match", help="see `semivox methods`")
    parser.add_argument("--config", help="shipped config or TOML file; else a plan is made")
    parser.add_argument("--set", action="append", dest="settings", metavar="KEY=VALUE", help="wins over the config")
    for row in train_one(**vars(parser.parse_args())):
        print(f"{row['case']} {row['name']}: Dice {row['dice']:.3f}, HD95 {row['hd95_mm']:.1f} mm")


if __name__ == "__main__":
    main()
