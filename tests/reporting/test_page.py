"""The page as a reader sees it, in a headless Chromium: widths, the cue of what scrolls, the console; with pictures."""

import re
from pathlib import Path

import pytest

from chrome import BROWSER, DRIVER, MISSING, browser
from score_files import write_experiment
from semivox.reporting.report import write_report

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason=MISSING)
STYLE = Path(write_report.__code__.co_filename).parent / "templates" / "style.css"
LONG = "a_method_with_a_name_that_has_no_place_to_break_and_goes_on_for_a_while_longer"


@pytest.fixture(scope="module", name="page")
def _page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module", name="report")
def _report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    scores = write_experiment(folder, methods=("supervised", "ua_mt", LONG))
    return write_report(scores, folder / "report.html", title="Left atrium of " + "<w>" * 40)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_never_scrolls_sideways_and_what_is_too_wide_scrolls_in_its_box(page, report, tmp_path, width, scheme):
    page.show(report, width=width, scheme=scheme)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")

    assert page.run("return innerWidth") == width
    assert page.run("return document.documentElement.scrollWidth") <= width
    boxes = page.run(
        "return [...document.querySelectorAll('.scroll, .card')].map(box => { const s = getComputedStyle(box); return "
        "[box.scrollWidth > box.clientWidth, s.overflowX, s.backgroundImage.split('linear-gradient').length - 1, "
        "s.backgroundAttachment] })"
    )
    assert len(boxes) >= 8
    assert any(wide for wide, *_ in boxes) or width == 1400
    assert {tuple(cue) for _, *cue in boxes} == {("auto", 4, "local, local, scroll, scroll, scroll")}
    assert page.console() == []
    picture = page.shoot(tmp_path / f"report_{width}_{scheme}.png")
    assert picture.stat().st_size > 20_000


def test_tables_of_two_methods_fit_into_1400_pixels(page, tmp_path):
    report = write_report(write_experiment(tmp_path, methods=("supervised", "ua_mt")), tmp_path / "report.html")
    page.show(report, width=1400)
    page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.run("return [...document.querySelectorAll('.scroll')].every(b => b.scrollWidth <= b.clientWidth)")


def test_the_first_column_stays_in_sight_while_a_table_scrolls(page, report):
    page.show(report, width=390)
    left = (
        "const box = document.querySelector('#scores .scroll'); box.scrollLeft = 200; "
        "return [box.scrollLeft, box.querySelector('tbody th').getBoundingClientRect().left - "
        "box.getBoundingClientRect().left]"
    )
    scrolled, at = page.run(left)
    assert scrolled == 200
    assert 0 <= at <= 2


def test_every_table_of_numbers_has_a_download_that_holds_a_table(page, report):
    page.show(report, width=1400)
    tables, links = page.run(
        "return [document.querySelectorAll('table').length, [...document.querySelectorAll('a[download]')].map("
        "a => [a.download, decodeURIComponent(a.href.split(',').slice(1).join(','))])]"
    )
    assert len(links) == tables
    assert all(re.fullmatch(r"[\w-]+\.csv", name) for name, _ in links), [name for name, _ in links]
    assert all(text.count("\n") >= 2 for _, text in links)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(scheme):
    light, dark = STYLE.read_text().split("@media print")[0].split("@media", 1)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light if scheme == "light" else dark))
    for word in ("ink", "muted", "accent", "good", "bad"):
        for behind in ("page", "card"):
            assert contrast(colours[word], colours[behind]) >= 4.5, (word, behind)


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours by WCAG 2, in [1, 21]."""
    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
