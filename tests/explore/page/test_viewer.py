"""The picture, its words and its maps, as a person uses them."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from sclip_core.drawing.colours import palette

from .tabs import colours, pixels, settled

IMAGE = "?i=000003"


def names_of(tab) -> list[str]:
    return tab.locator("#legend .class-name").all_inner_texts()


def first(n: int) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in palette(n).tolist()}


def test_typing_words_paints_their_labels(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    assert colours(tab) == first(4)
    tab.fill("#words", "tree; rock")
    settled(tab, "2 classes")
    assert colours(tab) == first(2)
    assert sorted(names_of(tab)) == ["rock", "tree"]
    image = pixels(tab)
    assert image.shape == (640, 427, 4)  # the picture's own size
    assert not image[:8, :, 3].any()  # no label there: nothing is painted
    tab.wait_for_function("() => location.search.includes('w=tree')")


def test_labels_are_painted_where_they_lie(opened, fake):
    from sclip_core.explore.view import View

    tab = opened("?i=000004&w=one;two;three")
    settled(tab, "3 classes")
    labels = fake._label_map(View(collection="scenes", image="000004", words="one;two;three"), 3)
    expected = np.zeros((*labels.shape, 4), np.uint8)
    for k, colour in enumerate(palette(3)):
        expected[labels == k] = [*colour, 255]
    assert np.array_equal(pixels(tab), expected)


def test_of_two_quick_inputs_only_the_last_is_painted(opened):
    tab = opened(IMAGE + "&pamr=10")  # a second of PAMR
    tab.wait_for_selector("#progress:not([hidden])")
    tab.fill("#words", "old; older; oldest")
    tab.press("#words", "Enter")
    tab.wait_for_timeout(300)
    tab.fill("#words", "new; newer")
    tab.press("#words", "Enter")
    started = time.monotonic()
    painted = set()
    while "2 classes" not in tab.inner_text("#status-text"):
        painted |= {tab.inner_text("#legend")}
        assert time.monotonic() - started < 8
    assert not any("old" in legend or "sky" in legend for legend in painted)
    assert colours(tab) == first(2)


@pytest.mark.slow
def test_progress_of_pamr_is_shown_and_goes(opened):
    tab = opened(IMAGE + "&pamr=8")
    tab.wait_for_function(
        "() => /PAMR [1-9] of 8/.test(document.querySelector('#progress-text').textContent)"
    )
    settled(tab, "4 classes")
    assert tab.locator("#progress").is_hidden()
    assert tab.locator("#progress-text").is_hidden()


def test_an_error_is_a_line_in_the_page_and_the_next_input_recovers(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    tab.fill("#words", "bad; cat")
    tab.wait_for_selector("#failure:not([hidden])")
    assert "the word 'bad' is refused" in tab.inner_text("#failure")
    tab.fill("#words", "boom")
    tab.wait_for_function("() => !document.querySelector('#failure').textContent.includes('bad')")
    assert "boom" in tab.inner_text("#failure-text")
    tab.fill("#words", "cat; dog")
    settled(tab, "2 classes")
    assert tab.locator("#failure").is_hidden()


@pytest.mark.slow
def test_words_are_text_whatever_they_say(opened):
    tab = opened(IMAGE)
    tab.fill("#words", "<img src=x onerror=alert(1)>; <b>bold</b>")
    settled(tab, "2 classes")
    assert sorted(names_of(tab)) == ["<b>bold</b>", "<img src=x onerror=alert(1)>"]
    assert tab.locator("#legend img, #legend b").count() == 0


def test_a_pasted_list_of_lines_is_a_list_of_classes(opened):
    tab = opened(IMAGE)
    tab.fill("#words", "cat, kitten\ndog;\n\nbird")
    settled(tab, "3 classes")
    assert sorted(names_of(tab)) == ["bird", "cat", "dog"]


def test_a_slider_asks_for_its_labels(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    before = pixels(tab)
    tab.focus("#pamr-range")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => location.search.includes('pamr=1')")
    tab.wait_for_function("() => document.querySelector('#progress').hidden")
    assert not np.array_equal(pixels(tab), before)
    tab.click("#reset")
    assert tab.input_value("#pamr-range") == "0"


@pytest.mark.slow
def test_opacity_and_highlights_ask_for_nothing(opened, fake):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    asked = len(fake.calls)
    tab.fill("#opacity", "30")
    assert tab.evaluate("document.querySelector('#layer-a canvas').style.opacity") == "0.3"
    tab.hover("#legend button >> nth=1")
    alpha = pixels(tab)[..., 3]
    assert np.isin(alpha, [0, 40, 255]).all()
    assert abs((alpha == 255).mean() - 0.25) < 0.01  # a class of four
    assert len(fake.calls) == asked


@pytest.mark.slow
def test_the_heat_map_of_a_class_is_in_inferno(opened, fake):
    from sclip_core.explore.view import View

    tab = opened(IMAGE)
    settled(tab, "4 classes")
    tab.click("#legend button >> nth=1")
    tab.wait_for_selector("#scale:not([hidden])")
    assert tab.inner_text("#scale-title") == "grass"
    assert [tab.inner_text("#scale-low"), tab.inner_text("#scale-high")] == ["-0.100", "0.300"]
    blob = fake.heat(View(collection="scenes", image="000003"), "grass", None).blob
    values = np.frombuffer(blob, "<u2").reshape(640, 427) / 65535
    inferno = cv2.applyColorMap(np.rint(255 * values).astype(np.uint8), cv2.COLORMAP_INFERNO)
    assert np.abs(pixels(tab)[..., 2::-1].astype(int) - inferno.astype(int)).max() <= 6
    tab.focus("#low")
    tab.keyboard.press("End")  # the lowest value shown is the highest: all is dark
    tab.wait_for_function("() => location.search.includes('low=0.3')")
    assert pixels(tab)[..., :3].sum(axis=-1).max() < 20
    tab.click("#scale-reset")
    assert tab.inner_text("#scale-low") == "-0.100"
    tab.click("#legend button >> nth=1")
    tab.wait_for_selector("#scale", state="hidden")


@pytest.mark.slow
def test_errors_are_red_where_labels_and_truth_differ(opened, fake):
    from sclip_core.explore.view import View

    tab = opened("?i=000004&map=errors")
    settled(tab, "wrong pixels")
    plain = View(collection="scenes", image="000004")
    labels = fake._label_map(plain, 4)
    truth = fake._label_map(plain.model_copy(update={"pamr_steps": 10}), 4)
    shown = pixels(tab)
    red = (shown[..., 0] > 180) & (shown[..., 1] < 80)
    assert np.array_equal(red, (labels != truth) & (truth != 65535))
    share = 100 * red.sum() / (truth != 65535).sum()
    assert f"wrong pixels: {share:.1f} %" in tab.inner_text("#status-text")


@pytest.mark.slow
def test_errors_of_other_words_are_explained(opened):
    tab = opened("?i=000004&map=errors&w=cat;dog")
    settled(tab, "errors need the words of the ground truth")


@pytest.mark.parametrize("first_map", ["labels", "attention"])
@pytest.mark.slow
def test_a_click_shows_what_the_patch_is_like_or_attends_to(opened, first_map):
    tab = opened(IMAGE + f"&map={first_map}")
    settled(tab, "4 classes")
    box = tab.locator("#layer-a canvas").bounding_box()
    tab.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    kind = "attention" if first_map == "attention" else "likeness"
    tab.wait_for_function(
        "(kind) => document.querySelector('#scale-title').textContent === kind", arg=kind
    )
    tab.wait_for_function("() => location.search.includes('at=')")
    row, column = map(
        int, tab.evaluate("new URLSearchParams(location.search).get('at')").split(",")
    )
    assert abs(row - 320) <= 2
    assert abs(column - 107) <= 2
    shown = pixels(tab)[..., :3].sum(axis=-1)
    at = np.unravel_index(shown.argmax(), shown.shape)
    assert np.hypot(at[0] - row, at[1] - column) < 4  # brightest where it was clicked


def test_the_words_scores_are_told_under_the_pointer(opened):
    tab = opened(IMAGE)
    settled(tab, "4 classes")
    box = tab.locator("#layer-a canvas").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.9)
    tab.wait_for_selector("#tip table")
    rows = tab.locator("#tip tr").all_inner_texts()
    assert rows[0].split()[0] == "house"
    assert len(rows) == 5  # every word, synonyms too
    assert "row 57" in tab.inner_text("#tip .tip-place")
