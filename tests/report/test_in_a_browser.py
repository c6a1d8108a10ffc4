"""The page as a person opens it: nothing fails or is fetched, tables sort, it can be printed."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from sclip_core.report import write_report

from ..results.runs import made_run

SIZES = {"desk": (1200, 900), "phone": (390, 844)}


@contextmanager
def opened(browser, page, size=(1200, 900)):
    """The page; in the end nothing may have been said in the console, or asked of anyone."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    tab = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    context.close()


def column(tab, table: str, index: int) -> list[str]:
    rows = tab.locator(f"{table} tbody tr")
    return [rows.nth(i).locator("th, td").nth(index).inner_text() for i in range(rows.count())]


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0].replace("+", "").replace(",", "")) for text in texts]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["page_of_one", "page_of_three"])
def test_every_picture_is_there_and_nothing_sticks_out(browser, request, which, size):
    with opened(browser, request.getfixturevalue(which), SIZES[size]) as tab:
        tab.wait_for_function("[...document.images].every((i) => i.complete)")
        pictures = tab.evaluate("[...document.images].map((i) => i.naturalWidth)")
        each = {"page_of_one": 4, "page_of_three": 8}[which]
        assert len(pictures) == 8 * each  # of all eight images: they are few
        assert min(pictures) > 100
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        # plots: of several runs the intervals too
        assert tab.locator("svg.plot").count() == {"page_of_one": 3, "page_of_three": 6}[which]


def test_tables_sort(browser, page_of_three):
    with opened(browser, page_of_three) as tab:
        before = column(tab, "#class-table", 0)
        head = tab.locator("#class-table thead button", has_text="IoU").first
        head.click()
        down = numbers(column(tab, "#class-table", 3))
        assert down == sorted(down, reverse=True)
        assert tab.locator("#class-table th[aria-sort=descending]").count() == 1
        head.click()
        up = numbers(column(tab, "#class-table", 3))
        assert up == down[::-1] == sorted(down)
        assert column(tab, "#class-table", 0) != before
        tab.locator("#class-table thead button", has_text="class").click()
        names = column(tab, "#class-table", 0)
        assert names == sorted(before)
        assert tab.locator("#class-table th[aria-sort]").count() == 1


def test_what_has_no_value_stays_at_the_end(browser, page_of_three):
    with opened(browser, page_of_three) as tab:
        head = tab.locator("#class-table thead button", has_text="B − A")
        for _ in range(2):
            head.click()
            gains = column(tab, "#class-table", 5)
            known = [text for text in gains if text != "–"]
            assert gains[: len(known)] == known
            assert 0 < len(known) < len(gains)  # in fewer than five images: no interval


def test_confusions_sort_by_keyboard(browser, page_of_three):
    with opened(browser, page_of_three) as tab:
        head = tab.locator("table.confusion").first.locator("button", has_text="largest")
        head.focus()
        tab.keyboard.press("Enter")
        mistakes = numbers(column(tab, "details:first-of-type table.confusion", 2))
        assert mistakes == sorted(mistakes, reverse=True)


def test_in_print_all_is_unfolded(browser, page_of_three):
    with opened(browser, page_of_three) as tab:
        assert tab.locator("details[open]").count() == 1
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.locator("details[open]").count() == 3
        tab.emulate_media(media="print")
        assert not tab.locator("nav").is_visible()
        pdf = tab.pdf(format="A4", print_background=True)
        assert pdf.startswith(b"%PDF")
        shown = pdf.count(b"/Subtype /Image")
        assert shown >= tab.evaluate("document.images.length")  # those below the window too


def test_long_names_do_not_widen_a_phones_page(browser, tmp_path):
    names = ("antidisestablishmentarianism" * 9, "a name of many words " * 9, "cat")
    images = {"i" * 200 + str(n): [(n + 5, n + 9, n + 7), (3, 4, 5), (1, 2, 2)] for n in range(6)}
    made_run(tmp_path, "x-1", images, names=names, dataset="d" * 250, versions="{}")
    page, _ = write_report(["x-1"], tmp_path / "out", tmp_path)
    with opened(browser, page, SIZES["phone"]) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        head = tab.locator("#class-table tbody th").first.bounding_box()
        assert head["width"] <= 341
