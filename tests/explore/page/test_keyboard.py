"""The page without a mouse: every step of a session by keys alone."""

from __future__ import annotations

from .tabs import colours, settled


def focused(tab) -> str:
    """The id of the focused element, or its class's word."""
    return tab.evaluate("() => document.activeElement.id || document.activeElement.dataset.word")


def tab_to(tab, wanted: str, most: int = 40) -> None:
    """Press Tab until it has the focus."""
    for _ in range(most):
        if focused(tab) == wanted:
            return
        tab.keyboard.press("Tab")
    raise AssertionError(f"{most} times Tab do not lead to {wanted}")


def test_from_the_grid_to_a_heat_map(opened):
    tab = opened("")
    tab.wait_for_selector("#grid img")
    tab.keyboard.press("g")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    settled(tab, "4 classes")
    assert tab.inner_text("#image-name") == "000001"
    tab.keyboard.press("/")
    assert focused(tab) == "words"
    tab.keyboard.type("cloud; moss")  # what was there was selected
    settled(tab, "2 classes")
    tab_to(tab, "moss")  # it has more pixels
    tab.keyboard.press("ArrowDown")
    assert focused(tab) == "cloud"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#scale:not([hidden])")
    assert tab.inner_text("#scale-title") == "cloud"
    assert focused(tab) == "cloud"
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#scale", state="hidden")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#main[data-view=grid]")


def test_single_keys(opened):
    tab = opened("?i=000004")
    settled(tab, "4 classes")
    for key, value in (("t", "truth"), ("e", "errors"), ("h", "heat")):
        tab.keyboard.press(key)
        assert tab.input_value("#maps input:checked") == value
        tab.keyboard.press(key)
        assert tab.input_value("#maps input:checked") == "labels"
    tab.keyboard.press("ArrowRight")
    settled(tab, "4 classes")
    tab.wait_for_function("() => document.querySelector('#image-name').textContent === '000005'")
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_function("() => document.querySelector('#image-name').textContent === '000004'")
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    assert tab.locator("#help").is_hidden()
    assert tab.locator("#main").get_attribute("data-view") == "image"


def test_keys_in_the_words_are_letters(opened):
    tab = opened("?i=000004")
    settled(tab, "4 classes")
    tab.keyboard.press("/")
    tab.keyboard.type("the g/t?")
    settled(tab, "1 class")
    assert tab.input_value("#words") == "the g/t?"
    assert tab.input_value("#maps input:checked") == "labels"
    assert tab.locator("#help").is_hidden()


def test_a_patch_is_picked_by_arrow_keys(opened):
    tab = opened("?i=000004")
    settled(tab, "4 classes")
    tab.focus("#stage")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#tip:not([hidden])")
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => document.querySelector('#scale-title').textContent === 'likeness'")
    # the middle of 480×640, and a fortieth of the longer side each
    assert "at=256,336" in tab.url


def test_the_divider_is_moved_by_arrow_keys(opened):
    tab = opened("?i=000004&b.pamr=2")
    settled(tab, "4 classes")
    tab.keyboard.press("c")
    assert focused(tab) == "divider"
    settled(tab, "B")
    assert colours(tab, "b") == colours(tab, "a")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Shift+ArrowLeft")
    assert tab.get_attribute("#divider", "aria-valuenow") == "38"
    tab.wait_for_function("() => location.search.includes('split=38')")
    clip = tab.evaluate("() => document.querySelector('#layer-b').style.clipPath")
    assert clip == "inset(0px 0px 0px 38%)"
    tab.keyboard.press("Home")
    assert tab.get_attribute("#divider", "aria-valuenow") == "0"
