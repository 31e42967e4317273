"""The page of a run: every mask drawn on its scan, the likely worst first, in one offline file."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.pictures import drawn_as_scan, is_picture
from semivox.data.volume import read_image, read_label
from semivox.files import write_atomic
from semivox.reporting.slices import draw_slice, outline_colours
from semivox.scoring.pairing import list_masks

HOW = (
    "A thin line is the mask, in the slice where it is largest. The estimate is the Dice between this mask and that of "
    "a net which learnt from the labelled scans alone: where the two disagree, look first. It is no score: a mask that "
    "both get wrong alike is not found by it."
)


def write_page(
    rows: Sequence[Mapping[str, Any]],
    scans: Mapping[str, Sequence[Path]],
    masks: Path,
    output: Path,
    *,
    title: str,
    summary: str,
) -> Path:
    """Write the page and return its path.

    Args:
        rows: of quality.csv, as `estimate_quality` returns them.
        scans: the files of every scan.
        masks: their folder.
        output: the HTML file.
        title: what the data are called.
        summary: a sentence on what was done.

    Raises:
        RunError: the file cannot be written.
    """
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    found = list_masks(masks)
    names = {int(row["label"]): str(row["name"]) for row in rows}
    figures = "\n".join(_figure(case, own, scans[case], found[case], names) for case, own in by_case.items())
    style = (files("semivox.reporting") / "templates" / "style.css").read_text()
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}: masks</title><style>{style}</style></head><body>
<header><h1>semivox run</h1>
<p class="headline">{len(by_case)} masks, the likely worst first</p>
<p class="quiet">{escape(summary)}</p><p>{escape(HOW)}</p>
<p><a href="quality.csv">quality.csv</a> has every figure, <a href="masks/">masks</a> the files.</p></header>
<main>{_legend(names)}<section class="slices">
{figures}
</section></main></body></html>
"""
    write_atomic(output, lambda file: file.write(text.encode()))
    return output


def _legend(names: Mapping[int, str]) -> str:
    """Return what each colour is; a class alone needs none."""
    keys = [
        f'<span><i class="key" style="border-color:{colour}"></i>{escape(names[value])}</span>'
        for value, (_, colour) in outline_colours(names).items()
    ]
    return f'<p class="legend">{"".join(keys)}</p>' if len(keys) > 1 else ""


def _figure(
    case: str, rows: Sequence[Mapping[str, Any]], scan: Sequence[Path], mask: Path, names: Mapping[int, str]
) -> str:
    image, label = read_image(list(scan)), read_label(mask)
    arrays = [drawn_as_scan(v.array) if is_picture(mask) else v.array for v in (image, label)]
    png = draw_slice(arrays[0], np.zeros_like(arrays[1]), arrays[1], label.spacing, labels=names)
    scores = ", ".join(f"{escape(str(row['name']))} {_score(row)}" for row in rows)
    words = list(dict.fromkeys(word for row in rows for word in str(row["flags"]).split("; ") if word))
    flags = f'<br><span class="bad">{escape("; ".join(words))}</span>' if words else ""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return (
        f'<figure><div class="frame"><img loading="lazy" src="{source}" alt="{escape(case)} with its mask"></div>'
        f"<figcaption><b>{escape(case)}</b><br>estimated Dice: {scores}{flags}</figcaption></figure>"
    )


def _score(row: Mapping[str, Any]) -> str:
    estimate, lower = row["dice_estimated"], row["dice_lower"]
    if estimate != estimate:
        return "–"
    bound = "" if lower != lower else f" (above {lower:.2f} with a probability of {row['coverage']:.0%})"
    return f"{estimate:.2f}{bound}"
