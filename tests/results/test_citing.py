"""BibTeX of what runs used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import pytest

from sclip_core.config import tables
from sclip_core.config.methods import INGREDIENTS, built_in_methods, method_table
from sclip_core.config.plugins import BUILT_IN
from sclip_core.encoder.attention import BUILT_IN as POLICIES
from sclip_core.results.citing import bibtex, cite, keys_of, references, used, without_entry

ALWAYS = ["sclip-benchmark", "radford2021clip", "ilharco2021openclip"]
NEEDED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title", "year"},
}
FIELD = re.compile(r"  (\w+) = \{(.+)\},")


def entry(text: str) -> tuple[str, str, dict[str, str]]:
    """Type, key and fields of an entry, by a strict grammar of our own."""
    first, *lines, last = text.splitlines()
    head = re.fullmatch(r"@(\w+)\{([a-z0-9-]+),", first)
    fields = [FIELD.fullmatch(line) for line in lines]
    assert head, first
    assert last == "}"
    assert all(fields), text
    found = {field[1]: field[2] for field in fields if field}
    assert len(found) == len(lines)
    return head[1], head[2], found


def row(**values: Any) -> Mapping[str, Any]:
    usual = {"dataset": "voc21", "mode": "dense", "attention": "csa", "pretrained": "openai"}
    return {**usual, **values}


def test_every_entry_of_the_file_is_read():
    text = (resources.files("sclip_core.config") / "references/references.bib").read_text("utf-8")
    assert len(references()) == text.count("\n@") + 1
    assert set(references()) == set(re.findall(r"^@\w+\{(.*),$", text, re.MULTILINE))


@pytest.mark.parametrize("key", references())
def test_an_entry(key):
    kind, named, fields = entry(references()[key])
    assert named == key
    assert set(fields) >= NEEDED[kind]
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    for value in fields.values():
        depth = 0
        for letter in value:
            depth += (letter == "{") - (letter == "}")
            assert depth >= 0
        assert depth == 0
        assert value.isascii()
    names = fields["author"].strip("{}")
    if not fields["author"].startswith("{"):
        assert all(", " in name or name == "others" for name in names.split(" and "))
    assert "pages" not in fields
    if "eprint" in fields:
        found = re.fullmatch(r"(\d\d)\d\d\.\d{4,5}", fields["eprint"])
        assert found
        assert fields["archiveprefix"] == "arXiv"
        assert 2000 + int(found[1]) <= int(fields["year"])


def test_a_parser_of_bibtex_reads_and_formats_all():
    """pybtex, which is strict, and whose style needs the fields that BibTeX's own needs."""
    database = pytest.importorskip("pybtex.database")
    pybtex = pytest.importorskip("pybtex")
    text = "\n".join(references().values())
    found = database.parse_string(text, "bibtex")
    assert list(found.entries) == list(references())
    first, *_ = found.entries["lan2024proxyclip"].persons["author"]
    assert str(first) == "Lan, Mengcheng"
    formatted = pybtex.format_from_string(text, "plain")
    assert formatted.count("\\bibitem") == len(references())


def test_everything_that_there_is_has_an_entry():
    """The registries, walked: methods, attentions, benchmarks, refiners, sources of masks."""
    table = used()
    assert set(table["methods"]) == set(built_in_methods())
    assert set(table["attentions"]) == set(POLICIES)
    assert set(table["benchmarks"]) == set(tables()["benchmarks"])
    assert set(table["refiners"]) == set(BUILT_IN["refiner"])
    assert set(table["masks"]) == {"sam", "slic", "felzenszwalb", "files"}
    kinds = [v for v in table.values() if isinstance(v, dict)]
    cited = {key for kind in kinds for keys in kind.values() for key in keys} | {*table["always"]}
    assert cited == set(references())
    for name, facts in method_table().items():
        if name in built_in_methods() and facts.get("second"):
            second = row(method=name, attention=None, proxy_model=facts["second"])
            assert {"caron2021dino", "wightman2019timm"} <= set(keys_of(second))
    assert set(INGREDIENTS) == {"clip", "dino", "sam", "masks"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ["wang2024sclip", "everingham2010voc"]),
        ({"attention": "naclip:vanilla"}, ["hajimiri2025naclip", "everingham2010voc"]),
        (
            {"pamr_steps": 10, "dataset": "coco_stuff"},
            ["wang2024sclip", "araslanov2020pamr", "caesar2018cocostuff", "lin2014coco"],
        ),
        (
            {"method": "pearl", "attention": None, "refiner": "tlp", "dataset": "ade20k"},
            ["pei2026pearl", "zhou2017ade20k"],
        ),
        (
            {
                "method": "trident",
                "attention": None,
                "proxy_model": "dino_vitb16",
                "sam_encoder": "vit_b",
                "dataset": "cityscapes",
            },
            [
                *("shi2024trident", "caron2021dino", "wightman2019timm", "kirillov2023sam"),
                "cordts2016cityscapes",
            ],
        ),
        (
            {"proposals": "slic", "mode": "baseline", "attention": None},
            ["achanta2012slic", "everingham2010voc"],
        ),
        (
            {"proxy_model": "vit_base_patch14_dinov2.lvd142m"},
            ["wang2024sclip", "oquab2024dinov2", "wightman2019timm", "everingham2010voc"],
        ),
        (
            {"pretrained": "laion2b_s34b_b88k", "images": "/data/x", "dataset": "mine"},
            ["cherti2023laion", "wang2024sclip"],
        ),
    ],
)
def test_what_a_run_cites(values, expected):
    assert keys_of(row(**values)) == [*ALWAYS, *expected]
    assert without_entry(row(**values)) == []


def test_predictions_of_another_tool_cite_no_network():
    given = {"dataset": "voc21", "mode": "predictions", "attention": None, "pretrained": None}
    assert keys_of(given) == ["sclip-benchmark", "everingham2010voc"]


def test_what_has_no_entry_is_named():
    own = row(method="mine", attention=None, pretrained="x.pt", proxy_model="vit_tiny")
    text = bibtex([own, row()])
    assert text.startswith(
        "% no entry for the weights x.pt: cite its authors\n"
        "% no entry for the method mine: cite its authors\n"
        "% no entry for the second network vit_tiny: cite its authors\n\n@"
    )
    assert re.findall(r"^@\w+\{(.*),", text, re.MULTILINE) == [
        *ALWAYS, "everingham2010voc", "wang2024sclip"
    ]  # fmt: skip


def test_of_real_runs(scenes_runs):
    text = cite("latest", "latest~1", "latest~2", "latest~3", artifacts=scenes_runs)
    assert re.findall(r"^@\w+\{(.*),", text, re.MULTILINE) == [
        *ALWAYS, "achanta2012slic", "wang2024sclip", "felzenszwalb2004graph", "araslanov2020pamr"
    ]  # fmt: skip
    assert "% no entry" not in text
