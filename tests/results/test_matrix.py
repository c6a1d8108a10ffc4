"""Methods × datasets: numbers, marks, means, significance, and what cannot be compared."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from sclip_core import UserError, results
from sclip_core.results.matrices.formats import WRITERS

from .runs import made_run

CLASSES = 3
SEED = {"csa": 1, "naclip": 2, "kk": 3}
ODD = '$x$~%#"\\'  # a method's name in which each letter needs care


def images(seed: int, count: int = 40, truth: int = 0, right: float = 0.6) -> dict[str, list]:
    """Areas of images with the same truth for every ``seed``."""
    labels = np.random.default_rng(1000 + truth).integers(1, 90, size=(count, CLASSES))
    rng = np.random.default_rng(seed)
    found = {}
    for number, label in enumerate(labels):
        intersect = rng.binomial(label, right)
        wrong = rng.multinomial((label - intersect).sum(), [1 / CLASSES] * CLASSES)
        found[f"{number:03}"] = list(
            zip(intersect.tolist(), (intersect + wrong).tolist(), label.tolist(), strict=True)
        )
    return found


def slow_miou(root: Path, run_id: str) -> float:
    """By loops over the table ``image_areas``."""
    intersect, union = [0] * CLASSES, [0] * CLASSES
    for row in results.image_areas(run_id, root).to_pylist():
        intersect[row["class_id"]] += row["intersect"]
        union[row["class_id"]] += row["prediction"] + row["label"] - row["intersect"]
    each = [100 * i / u for i, u in zip(intersect, union, strict=True) if u]
    return sum(each) / len(each)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Three methods on two datasets; one lacks the second."""
    root = tmp_path_factory.mktemp("matrix")
    for age, (method, seed) in enumerate(SEED.items()):
        right = 0.5 + 0.1 * seed
        made_run(root, f"a_1-{method}", images(seed, right=right), dataset="a_1", attention=method,
                 age=10 - age)  # fmt: skip
        if method != "kk":
            made_run(root, f"b-{method}", images(seed, 25, 7, right), dataset="b",
                     attention=method, age=5 - age)  # fmt: skip
    return root


def test_numbers_are_slow_sums_and_means_are_of_complete_rows(root):
    table = results.matrix(artifacts=root)
    assert (table.heads, table.columns) == (("method",), ("a_1", "b", "mean"))
    assert table.rows == (("csa",), ("naclip",), ("kk",))
    for method, (first, second, mean) in zip(SEED, table.cells, strict=True):
        assert first.value == pytest.approx(slow_miou(root, f"a_1-{method}"))
        if method == "kk":
            assert np.isnan(second.value)
            assert np.isnan(mean.value)
            assert dict(table.notes)[mean.notes[0]] == "no mean: no run on b"
        else:
            assert second.value == pytest.approx(slow_miou(root, f"b-{method}"))
            assert mean.value == pytest.approx((first.value + second.value) / 2)
    assert [[cell.rank for cell in line] for line in table.cells] == [
        [0, 2, 2],
        [2, 1, 1],
        [1, 0, 0],
    ]


def test_other_scores_are_of_the_same_areas(root):
    rows = results.class_iou("a_1-csa", root).to_pylist()
    areas = results.image_areas("a_1-csa", root).to_pylist()
    weighted = 0.0
    for row in rows:
        own = [each for each in areas if each["class_id"] == row["class_id"]]
        union = sum(e["prediction"] + e["label"] - e["intersect"] for e in own)
        weighted += row["label"] * 100 * sum(e["intersect"] for e in own) / union
    expected = weighted / sum(row["label"] for row in rows)
    plain = results.matrix("a_1-csa", "a_1-kk", score="fwIoU", artifacts=root)
    drawn = results.matrix("a_1-csa", "a_1-kk", score="fwiou", spread="se", artifacts=root)
    assert plain.cells[0][0].value == pytest.approx(expected)
    assert drawn.cells[0][0].value == pytest.approx(expected)
    assert np.isnan(plain.cells[0][0].error)
    assert drawn.cells[0][0].error > 0
    assert plain.legend[0].startswith("fwIoU in percent")


def test_equal_digits_share_a_mark(tmp_path):
    for name, right in (("csa", 500), ("kk", 501), ("naclip", 400), ("vanilla", 300)):
        areas = {"0": [(right, 1000, 1000)] + [(0, 0, 0)] * 2}
        made_run(tmp_path, f"x-{name}", areas, attention=name)
    ranks = {d: [line[0].rank for line in results.matrix("all", digits=d, artifacts=tmp_path).cells]
             for d in (0, 2)}  # fmt: skip
    order = [row[0] for row in results.matrix("all", artifacts=tmp_path).rows]
    assert dict(zip(order, ranks[0], strict=True)) == {"csa": 1, "kk": 1, "naclip": 2, "vanilla": 0}
    assert dict(zip(order, ranks[2], strict=True)) == {"csa": 2, "kk": 1, "naclip": 0, "vanilla": 0}


def test_significance_is_that_of_compare(root):
    table = results.matrix(
        *(f"a_1-{m}" for m in SEED), reference="csa", artifacts=root, resamples=300
    )
    assert table.cells[0][0].difference is None
    for method, (cell,) in list(zip(SEED, table.cells, strict=True))[1:]:
        row = results.compare("a_1-csa", f"a_1-{method}", artifacts=root, resamples=300)
        row = row.to_pylist()[0]
        assert cell.difference == pytest.approx((row["difference"], row["low"], row["high"]))
        assert cell.significant == (row["low"] > 0 or row["high"] < 0)
    assert table.cells[2][0].significant
    assert "†: the difference to csa is" in "\n".join(table.legend)


def test_the_mean_of_datasets_has_the_error_of_independent_draws(root):
    table = results.matrix(spread="se", artifacts=root, resamples=4000)
    first, second, mean = table.cells[0]
    assert mean.error == pytest.approx(np.hypot(first.error, second.error) / 2, rel=0.05)
    draws = np.random.default_rng(3)
    areas = np.array(list(images(1, right=0.6).values()))  # N, C, 3
    values = []
    for _ in range(2000):
        i, p, t = areas[draws.integers(len(areas), size=len(areas))].sum(0).T
        values.append(np.mean(100 * i / (p + t - i)))
    assert first.error == pytest.approx(np.std(values, ddof=1), rel=0.1)
    half = results.matrix(spread="half", artifacts=root).cells[0][0]
    assert (half.high - half.low) / 2 == pytest.approx(1.96 * first.error, rel=0.1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"images": images(9, 30)}, "own: 30 images, not 40; not as csa"),
        ({"images": images(9, truth=5)}, "own: another ground truth, or other images; not as csa"),
        ({"names": ("sky", "lawn", "cat")}, "own: class lawn in place of grass; not as csa"),
        ({"words_sha256": "f" * 64}, "own: other words for the classes; not as csa"),
        ({"num_failed": 2}, "own: 2 images failed, not 0; not as csa"),
        ({"split": "train"}, "own: split train, not val; not as csa"),
        ({"images_list": "easy.txt"}, "own: list of images easy.txt, not all; not as csa"),
        ({"ground_truth": "b" * 8}, "own: ground_truth bbbbbbbb, not -; not as csa"),
        ({"ignore_label": "0,255"}, "own: ignore_label 0,255, not -; not as csa"),
        ({"exif": "ignore"}, "own: exif ignore, not -; not as csa"),
        ({"distractors": "5 open"}, "own: distractors 5 open, not none; not as csa"),
    ],
)
def test_what_was_measured_on_something_else_is_marked(tmp_path, other, words):
    usual = {"words_sha256": "a" * 64}
    for age, method in enumerate(("csa", "kk")):
        made_run(tmp_path, f"own-{method}", images(age), attention=method, age=9 - age, **usual)
    row = {"images": images(9, right=0.99), **usual, **other}
    made_run(tmp_path, "own-odd", row.pop("images"), **row, attention="naclip")
    table = results.matrix(artifacts=tmp_path)
    assert [sentence for _, sentence in table.notes] == [words]
    ranks = [line[0].rank for line in table.cells]
    assert sorted(ranks[:2]) == [1, 2]
    assert ranks[2] == 0
    assert table.cells[2][0].notes == ("a",)


def test_other_weights_in_a_row_are_marked_and_not_averaged(tmp_path):
    for dataset, digest in (("a", "0" * 64), ("b", "0" * 64), ("c", "9" * 64)):
        made_run(tmp_path, f"{dataset}-x", images(1), dataset=dataset, weights_sha256=digest)
    table = results.matrix("a-x", "b-x", "c-x", artifacts=tmp_path)
    *_, third, mean = table.cells[0]
    assert np.isnan(mean.value)
    assert [sentence for _, sentence in table.notes] == [
        "c: model ViT-B-16 openai (99999999), on a ViT-B-16 openai (00000000)",
        "no mean: marked on c",
    ]
    assert third.notes == ("a",)


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        ("proxy_sha256", "c: second network (99999999), on a (00000000)"),
        ("sam_encoder_sha256", "c: SAM (99999999), on a (00000000)"),
        ("sam_sha256", "c: SAM (99999999), on a (00000000)"),
    ],
)
def test_other_networks_beside_clip_are_marked(tmp_path, digest, said):
    for dataset, letter in (("a", "0"), ("b", "0"), ("c", "9")):
        made_run(tmp_path, f"{dataset}-x", images(1), dataset=dataset, **{digest: letter * 64})
    table = results.matrix("a-x", "b-x", "c-x", artifacts=tmp_path)
    assert table.notes[0][1] == said
    assert np.isnan(table.cells[0][-1].value)


def test_a_value_chosen_for_one_dataset_is_marked(tmp_path):
    for dataset, threshold in (("voc21", 0.3), ("ade20k", 0.0)):
        made_run(tmp_path, f"{dataset}-x", images(1), dataset=dataset, prob_thd=threshold)
    (voc, _) = [s for _, s in results.matrix("voc21-x", "ade20k-x", artifacts=tmp_path).notes]
    assert voc == "voc21: prob_thd 0.3; the benchmark's own is 0.1"
    made_run(tmp_path, "voc21-y", images(1), dataset="voc21", prob_thd=0.1)
    assert not results.matrix("voc21-y", "ade20k-x", artifacts=tmp_path).notes


def test_two_runs_for_a_cell(tmp_path):
    made_run(tmp_path, "own-1", images(1), num_samples=None, age=1)
    made_run(tmp_path, "own-2", images(1, 20), num_samples=20)
    with pytest.raises(UserError) as caught:
        results.matrix(artifacts=tmp_path)
    said = str(caught.value)
    assert "own-1 and own-2 are both csa on own (they differ in num_samples all and 20, " in said
    assert "name the runs that you want, or pass --rows num_samples" in said
    table = results.matrix(rows=["num_samples"], artifacts=tmp_path)
    assert table.rows == (("csa", "all"), ("csa", "20"))
    assert not table.notes  # it was asked for
    made_run(tmp_path, "own-3", images(1), pamr_steps=10)  # another value is another row
    assert results.matrix("own-1", "own-3", artifacts=tmp_path).rows == (
        ("csa", "0"),
        ("csa", "10"),
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reference": "nobody"}, "--reference: no run 'nobody'"),
        ({"score": "fame"}, "unknown score 'fame'"),
        ({"rows": ["fame"]}, "unknown setting in --rows: 'fame'"),
    ],
)
def test_refused(root, given, words):
    with pytest.raises(UserError, match=re.escape(words)):
        results.matrix(artifacts=root, **given)


# --- what was written is read back


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A table with every kind of mark, and names that need care."""
    root = tmp_path_factory.mktemp("marked")
    for age, (method, right) in enumerate((("c_s*a", 0.5), ("<b>|&", 0.9), (ODD, 0.7))):
        for place, dataset in enumerate(("d_1", "e|2")):
            count = 30 if (age, dataset) == (0, "e|2") else 40
            made_run(root, f"{dataset[0]}-{age}", images(age, count, right=right),
                     dataset=dataset, attention=method, age=9 - 2 * age - place)  # fmt: skip
    return results.matrix(
        spread="interval", reference="c_s*a", artifacts=root, resamples=200, digits=1
    )


def test_csv_holds_the_numbers(marked):
    rows = list(csv.DictReader(io.StringIO(WRITERS["csv"](marked))))
    assert [row["method"] for row in rows] == ["c_s*a", "<b>|&", ODD]
    for row, line in zip(rows, marked.cells, strict=True):
        for column, cell in zip(marked.columns, line, strict=True):
            for name, number in (("", cell.value), ("_low", cell.low), ("_se", cell.error)):
                text = row[column + name]
                assert (np.isnan(number) and not text) or float(text) == number
            assert row[f"{column}_run"] == (cell.run_id or "")
    assert rows[0]["e|2_note"] == "e|2: 30 images, not 40; not as <b>|&"
    assert float(rows[1]["d_1_difference_low"]) > 0


def test_markdown_is_one_table_for_its_parser(marked):
    tokens = MarkdownIt("commonmark").enable("table").parse(WRITERS["markdown"](marked))
    cells = [t for before, t in pairwise(tokens)
             if before.type in ("td_open", "th_open")]  # fmt: skip
    texts = ["".join(c.content for c in cell.children if c.type in ("text", "text_special"))
             for cell in cells]  # fmt: skip
    assert texts[:4] == ["method", "d_1", "e|2", "mean"]
    lines = [texts[i : i + 4] for i in range(4, len(texts), 4)]
    assert [line[0] for line in lines] == ["c_s*a", "<b>|&", ODD]
    for line, found in zip(marked.cells, lines, strict=True):
        for cell, text in zip(line, found[1:], strict=True):
            assert text.startswith(marked.text(cell.value))
            if not np.isnan(cell.low):
                assert f" [{cell.low:.1f}, {cell.high:.1f}]" in text
    bold = [cell.content for cell in cells if any(c.type == "strong_open" for c in cell.children)]
    assert len(bold) == 3
    assert all(f"**{marked.text(line.value)}**" in text
               for line, text in zip(marked.cells[1], bold, strict=True))  # fmt: skip
    assert sum("<u>" in cell.content for cell in cells) == 3


def test_latex_has_the_structure_of_a_table(marked):
    text = WRITERS["latex"](marked)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line.removesuffix(r" \\").split(" & ") for line in body.splitlines()[1:]]
    assert [len(row) for row in rows] == [4] * 3
    assert [row[0] for row in rows] == [
        "c\\_s*a", r"\textless{}b\textgreater{}\textbar{}\&",
        r"\$x\$\textasciitilde{}\%\#{\char34}\textbackslash{}",
    ]  # fmt: skip
    assert [row[1].count(r"\textbf{") for row in rows] == [0, 1, 0]
    assert [row[1].count(r"\underline{") for row in rows] == [0, 0, 1]
    assert r"\dagger" in rows[1][1]
    assert r"\mathrm{a}" in rows[0][2]
    numbers = [Decimal(re.search(r"\d+\.\d", row[1])[0]) for row in rows]
    assert numbers == [Decimal(marked.text(line[0].value)) for line in marked.cells]
    assert text.count("{") == text.count("}")
    for letter in "&%#_$":  # outside of what the table itself says
        notes = text[text.index(r"\raggedright") :]
        bare = re.findall(rf"(?<!\\){re.escape(letter)}", re.sub(r"\$(\\|\^)[^$]*\$", "", notes))
        assert not bare, letter


def test_no_line_of_latex_is_the_option_of_the_break_before_it(marked):
    r"""``\\\\`` takes a star and a length in brackets, behind a line end too."""
    table = dataclasses.replace(
        marked, rows=(("*a",), ("[2pt]",), ('--b---"',)), legend=(*marked.legend, "* of it")
    )
    assert any(line.startswith("[ ]: 95 %") for line in table.legend)
    text = WRITERS["latex"](table)
    assert not re.search(r"\\\\\s*[*\[]", text)
    assert "\n{}[ ]: 95 \\% bootstrap" in text
    assert [line.split(" & ")[0] for line in text.splitlines() if " & " in line][1:] == [
        "{}*a", "{}[2pt]", r"-{}-b-{}-{}-{\char34}"  # \textquotedbl is not in TeX's first encoding
    ]  # fmt: skip


def test_no_name_in_csv_is_a_formula(marked):
    names = ("=cmd|x", "+a", "-b", "@c", "-", "-0.5", "1e-3")
    rows = tuple((name,) for name in names)
    cells = tuple(marked.cells[0] for _ in names)
    table = dataclasses.replace(marked, rows=rows, cells=cells, columns=("=x", *marked.columns[1:]))
    found = list(csv.reader(io.StringIO(WRITERS["csv"](table))))
    assert [row[0] for row in found[1:]] == ["'=cmd|x", "'+a", "'-b", "'@c", "-", "-0.5", "1e-3"]
    assert found[0][1:3] == ["'=x", "'=x_low"]


@pytest.mark.parametrize("form", ["markdown", "latex", "typst"])
def test_what_stands_behind_a_plus_minus(root, form):
    for spread in ("half", "se"):
        table = results.matrix("a_1-csa", "b-csa", spread=spread, artifacts=root, resamples=200)
        text = WRITERS[form](table).replace(r"$\pm$", "±")
        for cell in table.cells[0]:
            width = (cell.high - cell.low) / 2 if spread == "half" else cell.error
            assert f"± {width:.2f}" in text
        ways = ("half the width of the 95 %", "bootstrap standard error")
        assert ways[spread == "se"] in text.replace("\\%", "%")
        assert ways[spread != "se"] not in text.replace("\\%", "%")


def test_names_are_strings_of_typst(marked):
    found = re.findall(r'"(?:\\.|[^"\\])*"', WRITERS["typst"](marked))
    texts = [json.loads(each) for each in found]
    assert texts[:4] == ["method", "d_1", "e|2", "mean"]
    assert {"c_s*a", "<b>|&", ODD, marked.text(marked.cells[0][0].value)} <= set(texts)


def test_typst_compiles(marked):
    typst = pytest.importorskip("typst")
    text = WRITERS["typst"](marked)
    assert typst.compile(text.encode(), format="pdf").startswith(b"%PDF")
    assert text.count("strong(") == 3


def test_datasets_of_equally_many_images_are_drawn_apart(tmp_path):
    for dataset in ("a", "b"):  # the same draws would give the mean the error of one
        made_run(tmp_path, f"{dataset}-x", images(1), dataset=dataset)
    first, _, mean = results.matrix("a-x", "b-x", spread="se", artifacts=tmp_path).cells[0]
    assert mean.error == pytest.approx(first.error / np.sqrt(2), rel=0.05)
