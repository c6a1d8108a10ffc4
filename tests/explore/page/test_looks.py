"""The page on screens of all widths, in dark and light, for all people."""

from __future__ import annotations

from pathlib import Path

import pytest

from .tabs import settled

VIEWS = {
    "grid": "",
    "viewer": "?i=000004",
    "heat": "?i=000004&map=heat&word=grass",
    "compare": "?i=000004&split=50&b.pamr=1",
    "help": "?i=000004",
}
SLOW = pytest.mark.slow
WIDTHS = (360, 390, 768, 1200, 1920, 2560)


def show(opened, view: str, width: int, **options):
    """A view, when it is there."""
    height = 844 if width < 500 else 900
    tab = opened(VIEWS[view], (width, height), **options)
    if view == "grid":
        tab.wait_for_selector("#grid img")
    else:
        settled(tab, "classes, A" if view == "compare" else "classes")
    if view == "help":
        tab.keyboard.press("?")
    return tab


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    package = pytest.importorskip("axe_playwright_python")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


OF_AXE = [
    pytest.param(
        *(view, scheme, width),
        marks=[]
        if (scheme, width) == ("dark", 390)
        else [SLOW]
        if (scheme, width) == ("light", 1440)
        else [SLOW, pytest.mark.long],
    )
    for view in VIEWS
    for scheme in ("dark", "light")
    for width in (390, 1440)
]


@pytest.mark.parametrize(("view", "scheme", "width"), OF_AXE)
def test_axe_finds_no_serious_fault(opened, axe, view, scheme, width):
    tab = show(opened, view, width, color_scheme=scheme, bypass_csp=True)
    tab.evaluate("() => { document.querySelector('#settings-part').open = true; }")
    tab.evaluate(axe)
    found = tab.evaluate("() => axe.run()")
    faults = [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical", "moderate")
        for node in one["nodes"]
    ]
    assert faults == []
    assert len(found["passes"]) > 10


@pytest.mark.parametrize("width", [w if w == 360 else pytest.param(w, marks=SLOW) for w in WIDTHS])
def test_nothing_sticks_out(opened, width):
    for view in ("grid", "viewer", "compare"):
        tab = show(opened, view, width)
        assert tab.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0, view
        wide = tab.evaluate("""() => [...document.querySelectorAll("#top *, #panel *, #modes *")]
            .filter((one) => one.checkVisibility() && !one.closest(".unseen")
                && one.getBoundingClientRect().right > innerWidth + 0.5)
            .map((one) => one.outerHTML.slice(0, 80))""")
        assert wide == [], view


def test_targets_are_large_enough_for_fingers(opened):
    tab = show(opened, "heat", 390, has_touch=True)
    tab.click("#settings-part > summary")
    small = tab.evaluate("""() => [...document.querySelectorAll("button, select, input, summary")]
        .filter((one) => one.checkVisibility() && one.closest("#top, #viewer, #panel"))
        .filter((one) => !one.closest(".segments, #scale-bar"))
        .map((one) => [one.id || one.textContent, one.getBoundingClientRect().height])
        .filter(([, height]) => height < 39.5)""")
    assert small == []


def test_on_a_phone_the_picture_is_above_the_words(opened):
    tab = show(opened, "viewer", 390)
    boxes = [tab.locator(one).bounding_box() for one in ("#stage", "#words", "#legend")]
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops)
    assert boxes[0]["height"] > 300
    assert tab.locator("#controls").is_hidden()  # behind the summary


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_colours_follow_the_system(opened, scheme):
    tab = show(opened, "viewer", 1200, color_scheme=scheme)
    ground = tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    red = int(ground.split("(")[1].split(",")[0])
    assert red < 40 if scheme == "dark" else red > 220


def test_on_wide_screens_the_images_stay_beside_the_picture(opened):
    tab = show(opened, "viewer", 1920)
    assert tab.locator("#grid").bounding_box()["width"] == 250
    tab.click("#grid img >> nth=2")
    tab.wait_for_function("() => document.querySelector('#image-name').textContent === '000002'")


def test_an_address_brings_its_image_into_view_in_the_strip(opened):
    tab = opened("?i=000123", (1600, 900))
    settled(tab, "classes")
    tab.wait_for_selector("#grid .grid-cell[aria-selected=true]")
    box = tab.locator("#grid .grid-cell[aria-selected=true]").bounding_box()
    assert 0 < box["y"] < 900 - box["height"]
