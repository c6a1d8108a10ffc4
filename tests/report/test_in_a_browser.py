"""The page as a person opens it: nothing fails or is fetched, tables sort, it can be printed.

On a phone all of it is within the screen.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import resources
from itertools import groupby, product

import pytest

from sclip_core.report import write_report

from ..results.runs import made_run

SIZES = {"desk": (1200, 900), "tablet": (768, 1024), "phone": (390, 844)}
PAGES = (
    "page_of_one",
    pytest.param("page_of_two", marks=pytest.mark.slow),
    pytest.param("page_of_three", marks=[pytest.mark.slow, pytest.mark.long]),
    pytest.param("page_of_six", marks=pytest.mark.slow),
)
LINE = 21  # pixels of a line of text, at most
BOXES = "(all) => all.map((e) => e.getBoundingClientRect().toJSON())"


@contextmanager
def opened(browser, page, size=(1200, 900), scheme="light"):
    """The page; in the end nothing may have been said in the console, or asked of anyone."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
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


def boxes(tab, selector: str) -> list[dict[str, float]]:
    """The boxes of the elements that are shown."""
    return [box for box in tab.locator(selector).evaluate_all(BOXES) if box["width"]]


def numbers(texts: list[str]) -> list[float]:
    return [float(text.split()[0].replace("+", "").replace(",", "")) for text in texts]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", PAGES)
def test_every_picture_is_there_and_nothing_sticks_out(browser, request, which, size):
    with opened(browser, request.getfixturevalue(which), SIZES[size]) as tab:
        tab.wait_for_function("[...document.images].every((i) => i.complete)")
        pictures = tab.evaluate("[...document.images].map((i) => i.naturalWidth)")
        each = {"page_of_one": 4, "page_of_two": 6, "page_of_three": 8, "page_of_six": 14}[which]
        assert len(pictures) == 8 * each  # of all eight images: they are few
        assert min(pictures) > 100
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        # plots: of several runs the intervals too, and a matrix of each
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        runs = each // 2 - 1
        assert len(boxes(tab, "svg.plot")) == (3 if runs == 1 else 3 + runs)


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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", PAGES)
def test_nothing_has_to_be_scrolled_sideways(browser, request, which, size):
    """The columns of every run, the bars, the plots and the names of sections are on the screen."""
    with opened(browser, request.getfixturevalue(which), SIZES[size]) as tab:
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")  # unfolds
        parts = "td, tbody th, .track, .stack, .stack span, svg.plot, nav a, .row div, button"
        found = boxes(tab, parts)
        assert len(found) > 200
        assert min(box["left"] for box in found) >= 0
        assert max(box["right"] for box in found) <= SIZES[size][0]
        assert tab.evaluate(
            "[...document.querySelectorAll('.wide')].every((e) => e.scrollWidth <= e.clientWidth)"
        )
        assert tab.locator(".wide[tabindex]").count() == 0


@pytest.mark.parametrize(
    "which", ["page_of_two", pytest.param("page_of_six", marks=pytest.mark.slow)]
)
def test_a_class_shows_every_run_on_a_phone(browser, request, which):
    runs = {"page_of_two": 2, "page_of_six": 6}[which]
    with opened(browser, request.getfixturevalue(which), SIZES["phone"]) as tab:
        rows = tab.locator("#class-table tbody tr")
        for index in range(rows.count()):
            bars = rows.nth(index).locator(".track").evaluate_all(BOXES)
            assert len(bars) == runs
            assert {(bar["left"], bar["width"]) for bar in bars} == {
                (bars[0]["left"], bars[0]["width"])
            }
            assert bars[0]["width"] > 80  # of the same length, so that they can be compared
            assert rows.nth(index).bounding_box()["height"] <= (runs + 2) * LINE + 10
        letters = "(e) => getComputedStyle(e, '::before').content"
        cells = rows.first.locator("td.of-run")
        said = [cells.nth(k).evaluate(letters) for k in range(runs)]
        assert said == [f'"{letter}"' for letter in "ABCDEF"[:runs]]


@pytest.mark.parametrize("size", SIZES)
def test_a_confusion_takes_two_lines_at_most(browser, page_of_two, size):
    with opened(browser, page_of_two, SIZES[size]) as tab:
        rows = boxes(tab, ".confusion tbody tr")
        assert len(rows) > 5
        assert max(row["height"] for row in rows) <= 2 * LINE + 10  # with what lies between rows
        bars = boxes(tab, ".stack")
        assert min(bar["width"] for bar in bars) >= 130
        assert len({bar["width"] for bar in bars}) == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", PAGES)
def test_the_rows_of_pictures_are_alike(browser, request, which, size):
    """As many in each; of six runs a tablet has room for four pairs, and then for three."""
    expected = {
        ("page_of_one", "phone"): [2, 2],
        ("page_of_one", "tablet"): [4],
        ("page_of_one", "desk"): [4],
        ("page_of_two", "phone"): [2, 2, 2],
        ("page_of_three", "phone"): [2, 2, 2, 2],
        ("page_of_six", "phone"): [2] * 7,
        ("page_of_two", "tablet"): [3, 3],
        ("page_of_two", "desk"): [3, 3],
        ("page_of_three", "tablet"): [4, 4],
        ("page_of_three", "desk"): [4, 4],
        ("page_of_six", "tablet"): [4, 4, 3, 3],
        ("page_of_six", "desk"): [7, 7],
    }
    with opened(browser, request.getfixturevalue(which), SIZES[size]) as tab:
        tab.wait_for_function("[...document.images].every((i) => i.complete)")
        for row in tab.locator(".row").all():
            pictures = sorted(row.locator("img").evaluate_all(BOXES), key=lambda box: box["top"])
            rows = [list(group) for _, group in groupby(pictures, lambda box: round(box["top"]))]
            assert [len(each) for each in rows] == expected[which, size]
            assert min(box["width"] for box in pictures) > 140


def test_text_of_plots_is_legible_on_a_phone(browser, page_of_three):
    """At least 11 pixels, in a plot that is not cut."""
    with opened(browser, page_of_three, SIZES["phone"]) as tab:
        sizes = tab.locator("svg.plot text").evaluate_all(
            """(all) => all.filter((e) => e.getBoundingClientRect().width).map((e) =>
                parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a
                    / Math.cos(Math.atan2(e.getScreenCTM().b, e.getScreenCTM().a)))"""
        )
        assert len(sizes) > 40
        assert min(size for size in sizes if size > 0.01) >= 11


def test_what_is_touched_is_large_enough_on_a_phone(browser, page_of_three):
    with opened(browser, page_of_three, SIZES["phone"]) as tab:
        for box in boxes(tab, "nav a, button, summary"):
            assert box["height"] >= 40
            assert box["width"] >= 24


def test_the_heads_sort_on_a_phone(browser, page_of_three):
    with opened(browser, page_of_three, SIZES["phone"]) as tab:
        tab.locator("#class-table thead button", has_text="C IoU").click()
        values = tab.locator("#class-table tbody tr td:nth-child(7)").evaluate_all(
            "(all) => all.map((e) => parseFloat(e.dataset.value))"
        )
        assert len(values) > 5
        assert values == sorted(values, reverse=True)
        assert len(set(values)) > 3


def test_the_focus_is_seen(browser, page_of_two):
    for scheme in ("light", "dark"):
        with opened(browser, page_of_two, scheme=scheme) as tab:
            seen = set()
            for _ in range(20):
                tab.keyboard.press("Tab")
                seen.add(
                    tab.evaluate(
                        """() => { const e = document.activeElement, s = getComputedStyle(e);
                            return `${e.tagName} ${s.outlineStyle} ${s.outlineWidth}`; }"""
                    )
                )
            assert seen == {f"{tag} solid 2px" for tag in ("A", "BUTTON", "SUMMARY")}


LOOKS = list(product(["page_of_one", "page_of_three"], SIZES, ["light", "dark"]))
QUICK = [("page_of_one", "phone", "dark")]


@pytest.mark.parametrize(
    ("which", "size", "scheme"),
    [
        pytest.param(
            *look,
            marks=[]
            if look in QUICK
            else [pytest.mark.slow]
            if look[2] == "light"
            else [pytest.mark.slow, pytest.mark.long],
        )
        for look in LOOKS
    ],
)
def test_axe_finds_no_serious_fault(browser, request, which, size, scheme):
    pytest.importorskip("axe_playwright_python")
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    with opened(browser, request.getfixturevalue(which), SIZES[size], scheme) as tab:
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")  # unfolds
        tab.evaluate(axe)
        found = tab.evaluate("axe.run()")
        assert len(found["passes"]) > 15
        grave = ("serious", "critical")
        faults = [
            (each["id"], each["help"]) for each in found["violations"] if each["impact"] in grave
        ]
        assert faults == []


def test_long_names_do_not_widen_a_phones_page(browser, tmp_path):
    names = ("antidisestablishmentarianism" * 9, "a name of many words " * 9, "cat")
    images = {"i" * 200 + str(n): [(n + 5, n + 9, n + 7), (3, 4, 5), (1, 2, 2)] for n in range(6)}
    made_run(tmp_path, "x-1", images, names=names, dataset="d" * 250, versions="{}")
    page, _ = write_report(["x-1"], tmp_path / "out", tmp_path)
    with opened(browser, page, SIZES["phone"]) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        head = tab.locator("#class-table tbody th").first.bounding_box()
        assert head["width"] <= 341
