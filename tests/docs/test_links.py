"""What the documentation names exists: relative links, their anchors, pages of the site, paths.

``make docs`` checks links between pages too, but not those to pictures, nor those outside docs/.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "artifacts/README.md"]
PAGES = [ROOT / name for name in OUTSIDE] + sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`((?:docs|examples|tests|\.ci)/[\w./*-]*)`")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return CODE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """Anchors of the headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in plain}


def links(path: Path) -> list[str]:
    """Where a page links to in this repository."""
    return [link for link in LINK.findall(prose(path)) if "://" not in link]


def site() -> dict[str, Any]:
    with (ROOT / "zensical.toml").open("rb") as file:
        return tomllib.load(file)["project"]


def pages_of(navigation: list[dict[str, Any]]) -> Iterator[str]:
    for entry in navigation:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from pages_of(target)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{named(page)} links to {link}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{named(page)} links to {link}"


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=named)
def test_the_site_has_what_its_pages_link_to(page):
    """A link out of docs/ works on GitHub, and is dead in the site."""
    for link in links(page):
        path = (page.parent / link.partition("#")[0]).resolve()
        assert path.is_relative_to(DOCS), f"{named(page)} links to {link}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_pages_that_are_included_in_the_site_have_no_relative_links(name):
    """They would lead elsewhere from docs/: name the path, as in `docs/protocol.md`."""
    assert links(ROOT / name) == []


def test_the_navigation_has_every_page():
    listed = list(pages_of(site()["nav"]))
    assert sorted(listed) == sorted(
        path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_paths_in_the_text_exist(page):
    for path in NAMED.findall(prose(page)):
        assert list(ROOT.glob(path.rstrip("/"))), f"{named(page)} names {path}"


def test_the_readme_fits_three_screens():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 900
