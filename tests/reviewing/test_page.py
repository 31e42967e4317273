"""The review page in a headless Chromium, from a folder without a network, as the person sees it who reviews."""

import json
import shutil
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from chrome import BROWSER, DRIVER, MISSING, browser
from reviewing_folders import write_review_folder
from semivox.data.volume import read_image, read_label
from semivox.reporting.slices import _plane
from semivox.reviewing.review import read_review
from semivox.scoring.pairing import list_masks
from toy_pictures import write_toy_pictures
from toys import write_toy_dataset

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason=MISSING)
EVIL = '<img src=x onerror="window.broken=1">'


@pytest.fixture(scope="module", name="downloads")
def _downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module", name="page")
def _page(tmp_path_factory, downloads):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.download_to(downloads)
        page.before_loading("window.showSaveFilePicker = undefined")  # it would ask a person
        yield page


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    """The review of three scans of two classes and two channels, the second one flagged."""
    place = tmp_path_factory.mktemp("review")
    data = write_toy_dataset(
        place / "data", cases=3, unlabelled=0, shape=(20, 16, 9), spacing=(1, 1, 3), channels=2, classes=3
    )
    write_review_folder(data, place / "out", flagged=["case_01"])
    return place / "out"


@pytest.fixture(scope="module", name="many")
def _many(tmp_path_factory):
    place = tmp_path_factory.mktemp("many")
    data = write_toy_dataset(place / "data", cases=200, unlabelled=0, shape=(8, 7, 6))
    write_review_folder(data, place / "out", flagged=["case_02", "case_199"])
    return place / "out"


@pytest.fixture
def opened(page):
    """Opens a page of which the browser remembers nothing."""

    def open_(folder, **words):
        page.show(folder / "index.html", **{"width": 1400} | words)
        page.run("localStorage.clear()")
        page.console()  # what was before is of another test
        page.show(folder / "index.html", **{"width": 1400} | words)
        shown(page)
        return page

    return open_


def until(page, script, expected=True, *, seconds=10.0):
    """Wait until a script returns what is expected, and fail with what it returns instead."""
    ends = time.monotonic() + seconds
    while (found := page.run(script)) != expected and time.monotonic() < ends:
        time.sleep(0.02)
    assert found == expected


def shown(page, case=None):
    until(page, "return viewer.shown !== null && viewer.shown.case === current.case && !viewer.waiting")
    if case:
        assert page.run("return current.case") == case


def text(page, name):
    return page.run(f"return document.getElementById('{name}').textContent")


def pressed(page):
    return page.run("return [...document.querySelectorAll('.choice[aria-pressed=true]')].map(b => b.dataset.choice)")


def listed(page):
    return page.run("return items.filter(item => item.row.getClientRects().length).map(item => item.case)")


def middle(page, number):
    return page.run(
        f"const box = viewer.views[{number}].canvas.getBoundingClientRect(); "
        "return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)]"
    )


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1000, "dark"), (390, "light"), (390, "dark")])
def test_the_page_fits_its_window_and_the_console_is_empty(opened, folder, tmp_path, width, scheme):
    page = opened(folder, width=width, scheme=scheme)
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.run("return viewer.views.every(v => v.canvas.clientHeight > 60 && v.canvas.clientWidth > 60)")
    unnamed = "return [...document.querySelectorAll('button, input, select')].filter(e => !e.labels?.length && "
    assert page.run(unnamed + "!e.ariaLabel && !e.textContent.trim()).map(e => e.outerHTML)") == []
    assert page.console() == []
    assert page.shoot(tmp_path / "page.png").stat().st_size > 20_000


def test_planes_show_what_the_report_shows_with_the_patients_right_at_the_left(opened, folder):
    page = opened(folder)
    image = read_image(sorted((folder.parent / "data/imagesTr").glob("case_00*")))
    mask = read_label(folder / "masks/case_00.nii.gz").array
    low, high = np.percentile(image.array, [0.5, 99.5])
    for number, axis in ((0, 2), (1, 1), (2, 0)):
        page.run(f"viewer.index[{axis}] = 4; window.marks = viewer.paint(viewer.views[{number}], "
                 f"...viewer.sizeOf(PLANES[{number}]))")  # fmt: skip
        painted, marks = page.run(
            f"const p = viewer.views[{number}].picture; return [[...p.getContext('2d').getImageData(0, 0, p.width, "
            "p.height).data].filter((v, at) => at % 4 === 0), [...window.marks]]"
        )
        grey = np.clip((_plane(image.array[0], axis, 4) - low) / (high - low) * 255, 0, 255)
        assert np.abs(np.reshape(painted, grey.shape) - grey).max() <= 1.5
        assert_array_equal(np.reshape(marks, grey.shape), _plane(mask, axis, 4))


def test_it_starts_where_the_mask_is_largest_with_the_acquired_plane_large(opened, folder):
    page = opened(folder)
    mask = read_label(folder / "masks/case_00.nii.gz").array != 0
    best = [int(mask.sum(tuple({0, 1, 2} - {axis})).argmax()) for axis in range(3)]
    assert page.run("return viewer.index") == best
    assert page.run("return viewer.views.map(v => v.figure.classList.contains('large'))") == [True, False, False]


def test_slices_go_by_wheel_keys_slider_and_click_to_the_last_one(opened, folder):
    page = opened(folder)
    start = page.run("return viewer.index[2]")
    page.press("up")
    assert page.run("return viewer.index[2]") == start + 1
    page.roll(tuple(middle(page, 0)), -120)
    until(page, "return viewer.index[2]", start)
    page.press(*["up"] * 12)
    assert page.run("return viewer.index[2]") == 8
    until(page, "return viewer.views[0].count.textContent", "9 of 9")
    page.press("2", "down")
    until(page, "return viewer.views.map(v => v.figure.classList.contains('large'))", [False, True, False])
    page.run("const s = viewer.views[2].slider; s.value = 3; s.dispatchEvent(new Event('input'))")
    assert page.run("return viewer.index[0]") == 3
    page.press("1")
    until(page, "return viewer.views[0].figure.classList.contains('large') && !viewer.waiting")
    x, y = middle(page, 0)
    page.drag((x + 3, y + 3), (0, 0))  # beside the middle, which lies between two voxels
    until(page, "return [viewer.index[0], viewer.index[1]]", [9, 7])


def test_window_and_level_go_by_dragging_presets_and_keys(opened, folder):
    page = opened(folder)
    before = text(page, "window")
    x, y = middle(page, 0)
    page.drag((x, y), (80, 30))
    until(page, "return document.getElementById('preset').value", "By hand")
    assert text(page, "window") != before
    page.press("w")
    until(page, "return document.getElementById('preset').value", "Around the mask")
    page.press("w", "w")
    until(page, "return document.getElementById('window').textContent", before)
    for key, what in (("b", "level"), ("d", "level"), ("+", "width"), ("-", "width")):
        now = page.run(f"return viewer.{what}")
        page.press(key)
        assert page.run(f"return viewer.{what}") != now
    page.press("i")
    assert page.run("return viewer.channel") == 1
    until(page, "return document.getElementById('channel').value", "2 MR_1")


def test_outlines_are_drawn_in_the_colours_of_the_legend_and_can_be_put_off(opened, folder):
    page = opened(folder)
    coloured = (
        "const c = viewer.views[0].canvas, found = {};"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "for (let i = 0; i < d.length; i += 4) { const k = d.slice(i, i + 3).join(); found[k] = (found[k] ?? 0) + 1 }"
        "const hex = h => [1, 3, 5].map(i => parseInt(h.slice(i, i + 2), 16)).join();"
        "return data.classes.map(({ colour }) => (found[hex(colour)] ?? 0) > 20)"
    )
    mask = read_label(folder / "masks/case_00.nii.gz").array
    for value in (1, 2):
        index = int((mask == value).sum((0, 1)).argmax())
        page.run(f"viewer.go(2, {index})")
        until(page, coloured, [bool((mask[..., index] == kind).any()) for kind in (1, 2)])
    page.press("o")
    until(page, coloured, [False, False])
    legend = page.run("return [...document.querySelectorAll('#estimates .key')].map(k => k.style.cssText)")
    assert legend == ["--colour: #f5b301;", "--colour: #4db8ff;"]


def test_a_case_says_its_estimates_with_their_bound_and_what_is_odd(opened, folder):
    page = opened(folder)
    assert "blob_1 0.30 above 0.20 with 80 % probability" in text(page, "estimates")
    page.press("right")
    shown(page, "case_01")
    assert "blob_1 without an estimate" in text(page, "estimates")
    assert text(page, "flags") == "many components; touches the border"


def test_choices_by_keys_and_notes_come_out_as_a_review_that_is_read(opened, many, downloads):
    page = opened(many)
    page.press("a")
    assert pressed(page) == ["accept"]
    assert text(page, "progress-text") == "1 of 200 reviewed"
    page.press("right", "r", "right", "c", "n", *"leaks A", "escape", "right", "a", "a")
    assert pressed(page) == [], "the same key once more takes it back"
    page.press("u", "c", "r")
    assert text(page, "progress-text") == "4 of 200 reviewed"
    assert "5 unsaved" in text(page, "state")
    page.run("const r = document.getElementById('reviewer'); r.value = 'Æ <b>'; r.dispatchEvent(new Event('input'))")
    page.press("s")
    until(page, "return document.getElementById('state').textContent.startsWith('All saved')")
    file = downloads / "review.json"
    ends = time.monotonic() + 10
    while not file.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    said = read_review(file, list_masks(many / "masks"))
    assert {case: (own.choice, own.note) for case, own in said.items()} == {
        "case_00": ("accept", ""), "case_01": ("reject", ""), "case_02": ("correct", "leaks A"),
        "case_04": ("reject", ""),
    }  # fmt: skip
    assert {own.reviewer for own in said.values()} == {"Æ <b>"}
    assert all(own.time.startswith("20") and own.time.endswith("Z") for own in said.values())
    assert page.console() == []
    file.unlink()


def test_choices_survive_a_reload_and_are_not_those_of_other_masks(opened, folder, tmp_path):
    page = opened(folder)
    page.press("right", "c", "n", "x", "enter")
    page.reload()
    shown(page, "case_01")
    assert pressed(page) == ["correct"]
    assert page.run("return document.getElementById('note').value") == "x"
    assert text(page, "state") == "1 unsaved, kept in this browser"
    data = shutil.copytree(folder.parent / "data", tmp_path / "data")
    shutil.copy(data / "labelsTr/case_02.nii.gz", data / "labelsTr/case_00.nii.gz")
    write_review_folder(data, tmp_path / "other")
    page.show(tmp_path / "other/index.html", width=1400)
    shown(page, "case_00")
    assert text(page, "progress-text") == "0 of 3 reviewed"


def test_a_review_is_loaded_where_it_is_later_and_of_these_masks(opened, folder, tmp_path):
    page = opened(folder)
    digests = page.run("return Object.fromEntries(data.cases.map(c => [c.case, c.mask]))")
    page.press("right", "r")
    old, late = "2001-01-01T00:00:00.000Z", "2101-01-01T00:00:00.000Z"
    cases = {
        "case_00": {"choice": "accept", "note": EVIL, "mask": digests["case_00"], "time": old},
        "case_01": {"choice": "accept", "mask": digests["case_01"], "time": old},
        "case_02": {"choice": "accept", "mask": "0" * 64, "time": late},
        EVIL: {"choice": "accept", "mask": digests["case_00"], "time": late},
    }
    (tmp_path / "review.json").write_text(json.dumps({"version": 1, "reviewer": "me", "cases": cases}))
    page.choose_file("#file", tmp_path / "review.json")
    told = "review.json: 1 taken, 1 left, which are later here, 2 left, which are of other masks"
    until(page, "return document.getElementById('state').textContent", told)
    assert page.run("return items.map(item => said(item.case).choice)") == ["accept", "reject", None]
    page.press("left")
    assert page.run("return document.getElementById('note').value") == EVIL
    (tmp_path / "other.json").write_text("{}")
    page.choose_file("#file", tmp_path / "other.json")
    until(page, "return document.getElementById('state').textContent.includes('nothing was taken')")


def test_where_the_browser_can_it_writes_into_a_file_that_was_chosen_once(opened, folder):
    page = opened(folder)
    page.run(
        "window.asked = 0; window.showSaveFilePicker = async () => { asked++; return { createWritable: async () => "
        "({ write: async (text) => { window.written = text }, close: async () => {} }) } }"
    )
    for key in ("a", "r"):
        page.press(key, "s")
        until(page, "return document.getElementById('state').textContent.startsWith('All saved')")
        choice = {"a": "accept", "r": "reject"}[key]
        assert json.loads(page.run("return written"))["cases"]["case_00"]["choice"] == choice
    assert page.run("return asked") == 1
    page.run("window.showSaveFilePicker = async () => { throw new DOMException('', 'AbortError') }; target = null")
    page.press("c", "s")
    assert text(page, "state") == "1 unsaved, kept in this browser", "who closed the question has saved nothing"


def test_filters_show_what_is_unreviewed_or_flagged_of_200_and_all_of_them_can_be_reached(opened, many):
    page = opened(many)
    assert len(listed(page)) == 200
    sight = "const b = current.button.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight"
    page.press(*["right"] * 20)
    shown(page, sorted(listed(page))[20])
    assert page.run(sight), "the list follows"
    page.run("items.at(-1).button.scrollIntoView(); items.at(-1).button.click()")
    page.press("right")
    shown(page, "case_99")
    assert page.run(sight)
    page.run("document.querySelector('[value=flagged]').click()")
    assert listed(page) == ["case_02", "case_199"]
    page.press("left", "left")
    shown(page, "case_02")
    page.press("a")
    page.run("document.querySelector('[value=unreviewed]').click()")
    assert len(listed(page)) == 199
    assert "case_02" not in listed(page)
    page.press("right")
    shown(page, "case_03")
    assert page.run("return decodedCases.size") <= 6, "what was seen does not fill the memory"
    assert page.console() == []


def test_a_picture_has_one_plane_in_colour(opened, tmp_path):
    write_review_folder(write_toy_pictures(tmp_path / "data"), tmp_path / "out")
    page = opened(tmp_path / "out")
    assert page.run("return viewer.views.map(v => !v.figure.hidden)") == [True, False, False]
    image = read_image(tmp_path / "data/imagesTr/case_00_0000.png").array[..., 0]
    low, high = np.percentile(image, [0.5, 99.5])
    painted = page.run(
        "const p = viewer.views[0].picture; return [p.height, p.width, "
        "...p.getContext('2d').getImageData(0, 0, p.width, p.height).data]"
    )
    pixels = np.reshape(painted[2:], (*painted[:2], 4))[..., :3]
    expected = np.clip((np.moveaxis(image, 0, -1) - low) / (high - low) * 255, 0, 255)
    assert np.abs(pixels - expected).max() <= 1.5, "the same way up as its file"
    assert page.console() == []


def test_names_and_notes_are_text_and_never_run(opened, tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=2, unlabelled=0, shape=(8, 7, 6))
    for path in data.glob("*/case_00*"):
        path.rename(path.with_name(path.name.replace("case_00", f"{EVIL} #1%2F?é")))
    file = data / "dataset.json"
    file.write_text(file.read_text().replace("blob_1", "</script><script>window.broken=2</script>"))
    write_review_folder(data, tmp_path / "out", title=f"</title></script>{EVIL}")
    page = opened(tmp_path / "out")
    page.press("n", *EVIL, "enter", "a")
    page.reload()
    shown(page, f"{EVIL} #1%2F?é")
    assert text(page, "case") == f"{EVIL} #1%2F?é"
    assert "</script><script>window.broken=2</script> " in text(page, "estimates")
    assert page.run("return window.broken ?? null") is None
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.console() == []


def test_a_case_whose_file_is_gone_is_said_and_the_others_go_on(opened, folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "out")
    (copied / "review/case_01.js").unlink()
    page = opened(copied)
    page.press("right")
    until(page, "return !document.getElementById('trouble').hidden")
    assert "review/case_01.js cannot be read" in text(page, "trouble")
    page.press("a", "right")
    shown(page, "case_02")
    assert page.run("return document.getElementById('trouble').hidden")
    page.console()  # the refused file is in it


def test_the_page_asks_for_nothing_but_its_own_folder(folder):
    for file in (folder / "index.html", *folder.glob("review/*.js")):
        assert "http://" not in file.read_text()
        assert "https://" not in file.read_text()
