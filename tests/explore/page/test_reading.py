"""What one reads from the page is not misleading: legend, scale, sides, runs, half-typed words."""

from __future__ import annotations

import numpy as np
import pytest

from sclip_core.explore.desk import Answer

from .tabs import pixels, settled

pytestmark = pytest.mark.slow

IMAGE = "?i=000003"
SIX = IMAGE + "&w=a;b;c;d;e;f"


@pytest.fixture
def two_of_six(fake, monkeypatch):
    """Labels of at most the classes 2 and 4; more of 4."""
    whole = fake._label_map

    def few(view, classes):
        labels = whole(view, classes)
        labels[labels != 65535] = 4
        labels[-40:] = 2
        return labels

    monkeypatch.setattr(fake, "_label_map", few)


def names(tab) -> list[str]:
    return tab.locator("#legend .class-name").all_inner_texts()


def test_present_classes_come_first_and_absent_ones_are_folded(opened, two_of_six):
    tab = opened(SIX)
    settled(tab, "6 classes")
    assert names(tab) == ["e", "c"]
    button = tab.locator("#legend-absent")
    assert "4 classes without a pixel" in button.inner_text()
    button.click()
    assert names(tab) == ["e", "c", "a", "b", "d", "f"]
    tab.click("[data-word=d]")  # the heat map of an absent one keeps its row
    button.click()
    assert names(tab) == ["e", "c", "d"]
    tab.select_option("#legend-order", "typed")
    assert names(tab) == list("abcdef")
    assert button.is_hidden()


def test_without_a_word_the_heat_map_is_that_of_the_largest_class(opened, two_of_six):
    tab = opened(SIX)
    settled(tab, "6 classes")
    tab.keyboard.press("h")
    tab.wait_for_selector("#scale:not([hidden])")
    assert tab.inner_text("#scale-title") == "e"


def test_two_heat_maps_have_one_scale(opened, fake, monkeypatch):
    whole = fake.heat

    def heat(view, word, task):
        found = whole(view, word, task)
        wider = {"low": -0.5, "high": 0.5} if view.pamr_steps else {}
        return Answer({**found.about, **wider}, found.blob)

    monkeypatch.setattr(fake, "heat", heat)
    alone = opened(IMAGE + "&map=heat&word=grass")
    alone.wait_for_selector("#scale:not([hidden])")
    assert alone.inner_text("#scale-high") == "0.300"
    tab = opened(IMAGE + "&map=heat&word=grass&split=50&b.pamr=1")
    tab.wait_for_function("() => document.querySelector('#scale-high').textContent === '0.500'")
    assert tab.inner_text("#scale-low") == "-0.500"
    brightest = [int(pixels(one)[..., :3].sum(axis=-1).max()) for one in (alone, tab)]
    assert brightest[1] < brightest[0]  # 0.3 is not the end of the scale any more
    assert int(pixels(tab, "b")[..., :3].sum(axis=-1).max()) == brightest[0]


@pytest.mark.parametrize("side", ["a", "b"])
def test_of_two_sides_one_is_copied_and_saved(opened, side):
    tab = opened(IMAGE + "&split=50&b.pamr=3", permissions=["clipboard-write"])
    settled(tab, "4 classes, A")
    steps = {"a": 0, "b": 3}[side]
    tab.click("#copy-button")
    tab.check(f"#copy-menu [value={side}]", force=True)
    with tab.expect_request("**/api/commands") as asked:
        tab.click("[data-copy=command]")
    assert asked.value.post_data_json["view"]["pamr_steps"] == steps
    tab.click("#save-button")
    assert tab.is_checked(f"#save-menu [value={side}]")  # the last choice
    with tab.expect_request("**/api/save") as asked, tab.expect_download():
        tab.click("[data-save=labels]")
    assert asked.value.post_data_json["view"]["pamr_steps"] == steps


def test_one_side_is_not_asked_for(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    tab.click("#copy-button")
    assert tab.locator("#copy-menu [data-sides]").is_hidden()


def test_a_new_word_is_waited_for_until_it_may_be_whole(opened):
    tab = opened(IMAGE + "&w=cat")
    settled(tab, "1 class")
    asked: list[str] = []
    tab.on("request", lambda request: "labels" in request.url and asked.append(request.url))
    tab.clock.install()
    tab.focus("#words")
    tab.keyboard.press("End")
    tab.keyboard.type("; d")
    tab.clock.run_for(200)
    assert asked == []
    tab.keyboard.type("og;")  # whole
    tab.clock.run_for(130)
    settled(tab, "2 classes")
    assert len(asked) == 1
    tab.keyboard.press("Backspace")  # known by now
    tab.clock.run_for(130)
    tab.keyboard.type(", h")
    tab.clock.run_for(260)
    tab.wait_for_function("() => document.querySelector('[data-word=dog]')?.title.includes('h')")


def test_runs_that_no_view_shows_order_images_alone(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    runs = tab.locator("#run option").all_inner_texts()
    assert [run.split(" ·")[0] for run in runs] == ["own settings", "csa, PAMR 10", "csa"]
    tab.keyboard.press("g")
    tab.click("#grid .grid-runs button:has-text('masks')")
    tab.wait_for_function("() => location.search.includes('order=worst:20260100-masks')")
    assert "pamr" not in tab.url


def test_the_picture_begins_high_on_a_phone(opened):
    tab = opened(IMAGE, (390, 844), has_touch=True)
    settled(tab, "4 classes")
    assert tab.locator("#stage").bounding_box()["y"] <= 110
    tab.select_option("#map-select", "truth")
    tab.wait_for_function("() => location.search.includes('map=truth')")
    tab.click("#to-grid")
    tab.wait_for_selector("#main[data-view=grid]")


def test_the_words_are_all_to_be_seen_when_an_image_is_opened_from_the_grid(opened):
    long = ";".join(f"word number {k}" for k in range(12))
    tab = opened(f"?w={long}")
    tab.click("#grid img >> nth=1")
    settled(tab, "12 classes")
    heights = tab.evaluate("() => { const f = document.querySelector('#words');"
                           " return [f.clientHeight, f.scrollHeight]; }")  # fmt: skip
    assert heights[0] >= min(heights[1], 120)
    assert np.all(np.array(heights) > 60)
