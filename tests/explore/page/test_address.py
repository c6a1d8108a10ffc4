"""A view is an address: reloading, going back, copying, saving, comparing."""

from __future__ import annotations

import io
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from .tabs import pixels, settled

pytestmark = pytest.mark.slow

FULL = "?c=scenes&i=000005&w=cat; dog, puppy&m=vanilla&pamr=1&scale=55&prob=0.2&opacity=80"


def query(tab) -> dict[str, str]:
    return {key: value[0] for key, value in parse_qs(urlsplit(tab.url).query).items()}


def test_an_address_shows_its_view_and_stays(opened):
    tab = opened(FULL + "&split=30&b.pamr=0")
    settled(tab, "2 classes, A")
    assert tab.input_value("#words") == "cat; dog, puppy"
    assert tab.input_value("#method") == "vanilla"
    assert tab.input_value("#scale-range") == "55"
    assert tab.input_value("#prob-range") == "0.2"
    assert tab.get_attribute("#divider", "aria-valuenow") == "30"
    before = [pixels(tab, side) for side in "ab"]
    assert not np.array_equal(*before)
    tab.reload()
    settled(tab, "2 classes, A")
    assert all(
        np.array_equal(one, pixels(tab, side)) for one, side in zip(before, "ab", strict=True)
    )


def test_defaults_are_left_out(opened):
    tab = opened("?i=000005")
    settled(tab, "4 classes")
    tab.fill("#pamr-range", "2")
    tab.fill("#words", "cat")
    tab.wait_for_function("() => location.search.includes('w=cat')")
    assert query(tab) == {"i": "000005", "w": "cat", "pamr": "2"}
    tab.fill("#pamr-range", "0")
    tab.click("#words-default")
    tab.wait_for_function("() => location.search === '?i=000005'")


def test_the_back_button_goes_back_through_images_and_maps(opened):
    tab = opened("")
    tab.wait_for_selector("#grid img")
    tab.click("#grid img >> nth=1")
    settled(tab, "4 classes")
    tab.fill("#words", "cat; dog")
    settled(tab, "2 classes")
    tab.click("#maps label:has-text('Truth')")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("() => document.querySelector('#image-name').textContent === '000002'")
    tab.go_back()
    tab.wait_for_function("() => document.querySelector('#image-name').textContent === '000001'")
    assert tab.input_value("#maps input:checked") == "truth"
    tab.go_back()
    assert tab.input_value("#maps input:checked") == "labels"
    assert tab.input_value("#words") == "cat; dog"
    tab.go_back()
    tab.wait_for_selector("#main[data-view=grid]")


def test_the_words_stay_on_the_next_image(opened):
    tab = opened("?i=000005&w=cat")
    settled(tab, "1 class,")
    tab.click("#next")
    tab.wait_for_function("() => document.querySelector('#image-name').textContent === '000006'")
    assert query(tab) == {"i": "000006", "w": "cat"}


def test_an_unknown_image_is_a_line_in_the_page(opened):
    tab = opened("?i=nothing")
    tab.wait_for_selector("#failure:not([hidden])")
    assert "no image 'nothing'" in tab.inner_text("#failure")
    assert [line for line in opened.said if "404" in line or "400" in line]
    opened.said.clear()  # the browser itself tells of each failed request


@pytest.mark.parametrize(
    "rest", ["&pamr=&scale=x&opacity=q&split=zz", "&at=1&low=a&map=none&b.x=1"]
)
def test_nonsense_in_the_address_is_passed_over(opened, rest):
    tab = opened("?i=000005" + rest)
    settled(tab, "4 classes")


def test_the_divider_is_dragged(opened):
    tab = opened("?i=000005&split=50")
    settled(tab, "4 classes")
    stage, handle = (tab.locator(one).bounding_box() for one in ("#stage", "#divider"))
    y = stage["y"] + stage["height"] / 2
    tab.mouse.move(handle["x"] + handle["width"] / 2, y)
    tab.mouse.down()
    tab.mouse.move(stage["x"] + stage["width"] * 0.7, y, steps=4)
    tab.mouse.up()
    assert tab.get_attribute("#divider", "aria-valuenow") == "70"
    assert tab.input_value("#maps input:checked") == "labels"  # no click on a patch


def test_the_second_side_follows_the_first_but_for_its_own_settings(opened):
    tab = opened("?i=000005")
    settled(tab, "4 classes")
    tab.click("#compare")
    settled(tab, "4 classes, A")
    assert tab.is_checked("#sides input[value=b]")
    tab.fill("#pamr-range", "3")
    tab.wait_for_function("() => location.search.includes('b.pamr=3')")
    settled(tab, "4 classes, A")
    tab.wait_for_function("() => document.querySelector('#progress').hidden")
    assert not np.array_equal(pixels(tab, "a"), pixels(tab, "b"))
    tab.check("#sides input[value=a]", force=True)
    assert tab.input_value("#pamr-range") == "0"
    tab.select_option("#method", "vanilla")
    assert "CLIP" in tab.inner_text("#tag-b")
    tab.click("#compare")
    tab.wait_for_function("() => location.search === '?i=000005&m=vanilla'")


def test_a_setting_of_the_second_side_stays_though_the_first_has_it_too(opened):
    tab = opened("?i=000005&split=50&b.pamr=3")
    settled(tab, "4 classes, A")
    tab.check("#sides input[value=b]", force=True)
    tab.fill("#pamr-range", "0")  # as the first side, which then gets another one
    tab.wait_for_function("() => location.search.includes('b.pamr=0')")
    tab.check("#sides input[value=a]", force=True)
    tab.fill("#pamr-range", "2")
    tab.wait_for_function("() => location.search.includes('&pamr=2')")
    tab.reload()
    settled(tab, "4 classes, A")
    tab.check("#sides input[value=b]", force=True)
    assert tab.input_value("#pamr-range") == "0"


def test_an_image_found_by_a_word_shows_the_word(opened):
    tab = opened("?q=lawn")
    tab.wait_for_selector("#grid img")
    tab.click("#grid img >> nth=0")
    tab.wait_for_selector("#scale:not([hidden])")
    assert tab.inner_text("#scale-title") == "lawn"


def test_an_image_found_by_another_word_shows_the_patch(opened):
    tab = opened("?q=bicycle")
    tab.wait_for_selector("#grid img")
    tab.click("#grid img >> nth=0")
    tab.wait_for_selector("#scale:not([hidden])")
    assert tab.inner_text("#scale-title") == "likeness"
    assert query(tab)["at"] == "100,200"  # where the fake says that the word is strongest


def test_the_settings_of_a_run_are_a_choice(opened):
    tab = opened("?i=000005&w=cat")
    settled(tab, "1 class")
    tab.select_option("#run", label="csa, PAMR 10 · 80.0")
    assert tab.input_value("#pamr-range") == "10"
    assert tab.input_value("#words").startswith("sky")
    tab.click("#worst")
    tab.wait_for_selector("#main[data-view=grid]")
    assert query(tab)["order"] == "worst:20260102-csa-10"


def test_a_picture_is_dropped_or_pasted(opened):
    give = """(kind) => new Promise((done) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 30, height: 20 });
        canvas.getContext("2d").fillRect(0, 0, 30, 20);
        canvas.toBlob((blob) => {
            const data = new DataTransfer();
            data.items.add(new File([blob], "a.png", { type: "image/png" }));
            const event = kind === "drop"
                ? new DragEvent("drop", { dataTransfer: data, cancelable: true, bubbles: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            done(document.body.dispatchEvent(event));
        });
    })"""
    for kind in ("drop", "paste"):
        tab = opened("?i=000005&w=cat; dog")
        settled(tab, "2 classes")
        tab.evaluate(give, kind)
        tab.wait_for_function("() => location.search.includes('c=uploads')")
        settled(tab, "2 classes")
        assert pixels(tab).shape == (20, 30, 4)


def test_copying(opened):
    tab = opened("?i=000005&w=cat; dog", permissions=["clipboard-read", "clipboard-write"])
    settled(tab, "2 classes")
    expected = {
        "Copy as command": "sclip segment 000005.png --classes 'cat; dog'",
        "Copy as Python": "from sclip_core import SCLIP",
        "Copy link": tab.url.split("?")[0] + "?i=000005&w=cat;+dog",
    }
    for title, text in expected.items():
        tab.click("#copy-button")
        tab.click(f"#copy-menu button:has-text('{title}')")
        tab.wait_for_function(
            "(text) => document.querySelector('#toast').textContent.includes(text)", arg=text
        )
        assert tab.evaluate("() => navigator.clipboard.readText()").startswith(text)
        tab.evaluate("() => { document.querySelector('#toast').textContent = ''; }")


def test_without_a_clipboard_the_text_is_shown(opened):
    tab = opened("?i=000005", permissions=[])
    settled(tab, "4 classes")
    tab.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    tab.click("#copy-button")
    tab.click("#copy-menu button:has-text('Copy as command')")
    tab.wait_for_selector("#copied[open]")
    assert tab.input_value("#copied-text").startswith("sclip segment")


def test_saving(opened):
    tab = opened("?i=000005&w=cat; dog")
    settled(tab, "2 classes")
    with tab.expect_download() as download:
        tab.click("#save-button")
        tab.click("#save-menu button:has-text('label map')")
    assert download.value.suggested_filename == "000005.labels.png"
    with open(download.value.path(), "rb") as file:
        assert Image.open(file).size == (640, 480)


def test_uploading(opened):
    tab = opened("?i=000005&w=cat; dog")
    settled(tab, "2 classes")
    file = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 30, 40)).save(file, "PNG")
    tab.set_input_files(
        "#upload", {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    tab.wait_for_function("() => location.search.includes('c=uploads')")
    settled(tab, "2 classes")  # the words come along
    assert pixels(tab).shape == (40, 60, 4)
    assert tab.locator("#maps label:has-text('Truth')").is_hidden()
    bad = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    tab.set_input_files("#upload", bad)
    tab.wait_for_selector("#failure:not([hidden])")
    opened.said[:] = [line for line in opened.said if "400" not in line]
