"""``sclip audit``: every figure recomputed by separate runs or by slow loops over pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sclip_core import results
from sclip_core.config import UserError, resolve
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.other_words import audited_lists, distracting, drawn
from sclip_core.demo.scenes.files import write_scenes
from sclip_core.encoder.clip import CLIP
from sclip_core.pipeline.audit import Asked, Audited, audit
from sclip_core.pipeline.freezing import freeze
from sclip_core.pipeline.pipeline import Pipeline, run_pipeline
from sclip_core.pipeline.run import Run
from sclip_core.report import write_report
from sclip_core.segmentation import Refiner

from .conftest import flags

THRESHOLD = {"prob_thd": 0.12, "logit_scale": 40.0}
MINE = """sky; clouds
lawn; grass
sea; water
sand
brick wall
street; road
snow
planks; wooden fence
beach ball
crate
tree
cottage
star
traffic cone; cone
automobile"""


def settings(artifacts: Path, scenes: Path, **given: object):
    own = {"dataset": "scenes", "data_root": scenes, "artifacts": artifacts, "device": "cpu"}
    return resolve(preset="demo", **{**own, **THRESHOLD, **given})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 6)
    (root / "mine.txt").write_text(MINE)
    return root


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Audited:
    """An audit of eight lists; not to be written to."""
    artifacts = tmp_path_factory.mktemp("audited")
    asked = Asked({"mine": scenes / "mine.txt"}, draws=2, distractors=3, seed=5)
    return audit(settings(artifacts, scenes), asked)


def by_name(audited: Audited) -> dict[str, dict]:
    return {row["list"]: row for row in audited.rows}


def test_the_lists_and_what_they_hold(audited):
    rows = by_name(audited)
    assert list(rows) == ["own", "plain", "draw-1", "draw-2", "all", "mine", "open", "closed"]
    own = Vocabulary.named("scenes")
    words = {name: json.loads(row["words"]) for name, row in rows.items()}
    assert words["own"] == [list(each) for each in own.words]
    assert words["plain"] == [[each[0]] for each in own.words]
    for name in ("draw-1", "draw-2"):
        assert all(len(w) == 1 and w[0] in o for w, o in zip(words[name], own.words, strict=True))
    assert words["mine"] == [line.split("; ") for line in MINE.split("\n")]
    assert rows["mine"]["words_separator"] == "; "
    assert words["open"] == words["closed"] == words["own"]
    assert len(json.loads(rows["open"]["distractors"])) == 3
    assert rows["open"]["run_id"] != rows["closed"]["run_id"]


@pytest.mark.parametrize("name", ["own", "plain", "draw-2", "mine"])
def test_a_list_is_the_run_of_its_words(tmp_path, scenes, audited, name):
    row = by_name(audited)[name]
    classes = {"classes": row["file"]} if row["file"] else {}
    alone = run_pipeline(Run(settings(tmp_path, scenes, **classes)))
    assert alone.row["miou"] == pytest.approx(row["miou"], abs=1e-9)
    for table in (results.class_iou, results.image_areas):
        tables = table(alone.run_id, tmp_path), table(row["run_id"], audited.artifacts)
        # The command names the classes of such a file by its first words.
        both = [each.drop_columns(["run_id"]) for each in tables]
        both = [t.drop_columns([n for n in t.column_names if n == "class_name"]) for t in both]
        assert both[0].equals(both[1])
    stored = results.query(f"from runs where run_id = '{row['run_id']}'", audited.artifacts)
    assert stored["key_metrics"].to_pylist() == [alone.row["key_metrics"]]
    if name in ("own", "plain"):
        assert alone.run_id == row["run_id"]


@pytest.mark.parametrize("name", ["own", "plain", "mine", "open", "closed"])
def test_the_score_by_a_loop_over_pixels(scenes, audited, name):
    row = by_name(audited)[name]
    words, more = json.loads(row["words"]), json.loads(row["distractors"])
    run = Run(settings(audited.artifacts, scenes))
    pipeline, clip = Pipeline.of(run), run.models.clip()
    asked = [word for each in words for word in each] + more
    embeddings = torch.stack([clip.encode_word(word, "openai") for word in asked])
    of = [k for k, each in enumerate(words) for _ in each]
    label, found, both = np.zeros((3, len(words)), np.int64)
    for sample, digest in zip(run.inputs.samples, run.inputs.image_digests, strict=True):
        features = pipeline.dense_features
        geometry, patches = features.read(features.row(digest, features.rows()))
        logits = Refiner(geometry, patches, embeddings, run.settings).logits().numpy()
        exponents = np.exp(40.0 * (logits - logits.max(axis=0)).astype(np.float64))
        probability = exponents / exponents.sum(axis=0)  # over all words, distractors too
        best = np.stack(
            [probability[[k for k, c in enumerate(of) if c == each]].max(axis=0)
             for each in range(len(words))]
        )  # fmt: skip
        guess = best.argmax(axis=0)
        sure = best.max(axis=0)
        if name == "open":
            rival = probability[len(of) :]
            lost = rival.max(axis=0) > sure
            guess = np.where(lost, -1, guess)
            sure = np.maximum(sure, rival.max(axis=0))
        guess = np.where(sure < THRESHOLD["prob_thd"], 0, guess)
        truth = run.inputs.ground_truth(sample)
        for each in range(len(words)):
            counted = truth >= 0
            label[each] += ((truth == each) & counted).sum()
            found[each] += ((guess == each) & counted).sum()
            both[each] += ((guess == each) & (truth == each)).sum()
    union = label + found - both
    iou = 100 * both[union > 0] / union[union > 0]
    assert row["miou"] == pytest.approx(iou.mean(), abs=0.02)  # ties of rounding
    stored = results.class_iou(row["run_id"], audited.artifacts).sort_by("class_id")
    np.testing.assert_allclose(stored["label"].to_numpy(), label)
    np.testing.assert_allclose(stored["prediction"].to_numpy(), found, atol=30)


def test_distractors_do_something_under_each_reading(audited):
    rows = by_name(audited)
    scores = {name: rows[name]["miou"] for name in ("own", "open", "closed")}
    assert len(set(scores.values())) == 3


def test_without_a_threshold_closed_is_own(tmp_path, scenes):
    found = audit(settings(tmp_path, scenes, prob_thd=0.0), Asked({}, draws=0, distractors=9))
    rows = by_name(found)
    assert rows["closed"]["difference"] == 0
    areas = [results.image_areas(rows[n]["run_id"], tmp_path) for n in ("own", "closed")]
    assert areas[0].drop_columns("run_id").equals(areas[1].drop_columns("run_id"))


def test_differences_are_paired_as_in_compare(audited):
    for row in audited.rows[1:]:
        if row["run_id"] == audited.rows[0]["run_id"]:
            assert row["difference"] is None
            continue
        table = results.compare(
            audited.rows[0]["run_id"], row["run_id"], artifacts=audited.artifacts
        )
        other = table.to_pylist()[0]
        assert other["score"] == "miou"
        assert row["difference"] == pytest.approx(other["difference"])
        assert row["difference_low"] == pytest.approx(other["low"])
        assert row["difference_high"] == pytest.approx(other["high"])


def test_worst_case_spread_and_the_words_that_did_it(audited):
    rows = audited.rows
    assert audited.worst["miou"] == min(row["miou"] for row in rows)
    assert audited.spread == max(r["miou"] for r in rows) - min(r["miou"] for r in rows)
    moved = audited.moved("mine")
    ious = [
        dict(zip(*(results.class_iou(by_name(audited)[n]["run_id"], audited.artifacts)[c]
                   .to_pylist() for c in ("class_name", "iou")), strict=True))
        for n in ("own", "mine")
    ]  # fmt: skip
    by_hand = {n: abs(ious[1][n] - ious[0][n]) for n in ious[0] if ious[0][n] is not None}
    assert abs(moved[0].difference) == max(by_hand.values())
    grass = next(each for each in moved if each.class_name == "grass")
    assert (grass.own_words, grass.words) == (("grass", "lawn", "meadow"), ("lawn", "grass"))
    for row in rows:
        of_run = results.class_iou(row["run_id"], audited.artifacts).to_pylist()
        worst = min((r for r in of_run if r["iou"] is not None), key=lambda r: r["iou"])
        assert (row["worst_class"], row["worst_iou"]) == (worst["class_name"], worst["iou"])


def test_the_table_is_queried_and_joined(audited):
    answer = results.query(
        "select list, r.miou - a.miou as none, r.words_sha256 = a.words_sha256 as same, "
        "r.distractors from audit a join runs r using (run_id) order by position",
        audited.artifacts,
    ).to_pylist()
    assert [row["list"] for row in answer] == [row["list"] for row in audited.rows]
    assert all(abs(row["none"]) < 1e-9 and row["same"] for row in answer)
    assert [row["distractors"] for row in answer[-2:]] == ["3 open", "3 closed"]
    assert results.audits(artifacts=audited.artifacts).equals(audited.table)


def test_a_table_of_all_runs_leaves_out_other_words(audited):
    others = {row["run_id"] for row in audited.rows} - {audited.rows[0]["run_id"]}
    left_out = f"{len(others)} runs of audits, under other words, left out of all"
    with pytest.warns(results.ResultsWarning, match=left_out):
        ((cell,),) = results.matrix("all", artifacts=audited.artifacts).cells
    assert cell.run_id == audited.rows[0]["run_id"]
    assert cell.value == pytest.approx(audited.rows[0]["miou"])
    named = by_name(audited)["plain"]["run_id"]
    ((cell,),) = results.matrix(named, artifacts=audited.artifacts).cells
    assert cell.run_id == named


def test_the_report_has_a_section_of_words(tmp_path, audited):
    names = [by_name(audited)[name]["run_id"] for name in ("own", "open", "mine")]
    page, _ = write_report(names, tmp_path / "page", audited.artifacts)
    words = page.read_text().partition('<section id="words">')[2].partition("</section>")[0]
    for row in audited.rows:
        assert row["run_id"] in words
        assert f"{row['miou']:.2f}" in words
    assert f"Worst case: {audited.worst['list']}" in words
    assert audited.moved()[0].class_name in words
    assert f"spread over {len(audited.rows)} lists: {audited.spread:.2f}" in words


def test_a_run_with_distractors_is_not_frozen(audited):
    with pytest.raises(UserError, match=r"with distractors \(3 open\), which no `sclip run` has"):
        freeze(by_name(audited)["open"]["run_id"], audited.artifacts)


def test_again_nothing_is_computed_and_a_word_is_encoded_once(tmp_path, scenes, monkeypatch):
    encoded: list[str] = []
    real = CLIP.encode_word

    def counted(self, word, templates="openai"):
        encoded.append(word)
        return real(self, word, templates)

    monkeypatch.setattr(CLIP, "encode_word", counted)
    asked = Asked({"mine": scenes / "mine.txt"}, draws=1, distractors=4)
    run_pipeline(Run(settings(tmp_path, scenes)))
    first = audit(settings(tmp_path, scenes), asked)
    assert len(encoded) == len(set(encoded))
    again = audit(settings(tmp_path, scenes), asked)
    states = {o.state for each in again.finished for o in each.outcomes.values()}
    assert states == {"cached"}
    assert len(encoded) == len(set(encoded))
    assert again.table.drop_columns("created_at").equals(first.table.drop_columns("created_at"))
    assert again.path == first.path


def test_seeds():
    own = Vocabulary.named("scenes")
    assert drawn(own, 1, 0) == drawn(own, 1, 0)
    assert len({drawn(own, k, s).words for k in (1, 2, 3) for s in (0, 1)}) > 3
    some = distracting(own, "scenes", 30, 7)
    assert distracting(own, "scenes", 10, 7) == some[:10]
    assert distracting(own, "scenes", 30, 8) != some
    assert len(set(some)) == 30
    assert not {word.casefold() for word in some} & {word.casefold() for word in own.queries}
    # a synonym is drawn as often as the others
    of_grass = [drawn(own, k, 0).words[1][0] for k in range(1, 601)]
    assert all(150 < of_grass.count(word) < 250 for word in own.words[1])


def test_all_synonyms_are_those_of_classes_of_the_name():
    own = Vocabulary.named("cityscapes")
    found = dict(audited_lists(own, "cityscapes", {})[-1].vocabulary.named_words)
    assert set(Vocabulary.named("voc21").named_words[15][1]) <= set(found["person"])
    assert found["person"][0] == "person"
    assert found["rider"] == ("rider",)
    words = [word for each in found.values() for word in each]
    assert len(words) == len(set(words))


def test_a_file_in_another_order_goes_by_names(tmp_path):
    own = Vocabulary.from_classes(["cat, kitten", "grass", "sky"])
    file = tmp_path / "words.txt"
    file.write_text("Sky;air\ncat;feline\ngrass;turf")
    (*_, mine) = audited_lists(own, "pets", {"mine": file})
    assert mine.vocabulary.words == (("cat", "feline"), ("grass", "turf"), ("Sky", "air"))
    assert mine.vocabulary.class_names == own.class_names
    file.write_text("feline\nturf\nair")  # other names: by their order
    (*_, mine) = audited_lists(own, "pets", {"mine": file})
    assert mine.vocabulary.words == (("feline",), ("turf",), ("air",))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--vocabulary", "mine.txt"], "--vocabulary mine.txt: expected NAME=FILE"),
        (["--vocabulary", "a=mine.txt", "--vocabulary", "a=b.txt"], "a is mine.txt already"),
        (["--vocabulary", "plain=mine.txt"], "every audit has a list plain"),
        (["--vocabulary", "a=none.txt"], "no vocabulary file at none.txt"),
        (["--vocabulary", "a={own}/two.txt"], "has 2 classes, but custom has 3"),
        (["--vocabulary", "a={own}/mixed.txt"], "'sky' is its class 3 and class 1 of custom"),
        (["--draws", "2"], "every class of custom has one word"),
        (["--distractors", "100000"], "words that are not in the list of custom"),
        (["--distractors", "3", "--mode", "hybrid", "--proposals", "slic"], "--mode hybrid"),
        (["--pamr-steps", "0,5"], "several values of pamr_steps"),
        (["--runner", "processes"], "leave --runner out"),
    ],
)
def test_bad_input_is_said_in_one_line(tmp_path, sclip, small, more, said):
    (tmp_path / "two.txt").write_text("sky\ngrass")
    (tmp_path / "mixed.txt").write_text("lane\ngrass\nsky")
    more = [one.format(own=tmp_path) for one in more]
    code, out, err = sclip("audit", "--direct", *flags(small, tmp_path / "artifacts"), *more)
    assert code == 2
    assert not out
    assert said in err.splitlines()[-1]


def test_the_command_prints_a_table_and_the_same_as_json(tmp_path, sclip, small):
    given = [*flags(small, tmp_path / "artifacts"), "--direct", "--distractors", "5"]
    code, out, _ = sclip("audit", *given)
    assert code == 0
    assert "worst case: " in out
    assert "spread over 5 lists" in out  # no synonyms, so no draws
    code, text, _ = sclip("audit", *given, "--json")
    found = json.loads(text)
    assert code == 0
    names = [each["list"] for each in found["lists"]]
    assert names == ["own", "plain", "all", "open", "closed"]
    for each in found["lists"]:
        assert f"{each['miou']:.2f}" in out
        assert each["run_id"] in out
    scores = [each["miou"] for each in found["lists"]]
    assert found["spread"] == pytest.approx(max(scores) - min(scores))


def test_own_images_keep_the_names_of_their_classes(tmp_path, small):
    file, artifacts = tmp_path / "classes.txt", tmp_path / "artifacts"
    file.write_text("sky, clouds\ngrass, lawn\nroad, street")
    given = dict(flag[2:].split("=", 1) for flag in flags(small, artifacts))
    given = {name.replace("-", "_"): value for name, value in given.items()} | {"classes": file}
    found = audit(resolve(**given), Asked({}, draws=4))
    names = [
        results.class_iou(row["run_id"], artifacts)["class_name"].to_pylist() for row in found.rows
    ]
    assert names == [["sky", "grass", "road"]] * len(names)
    assert any(json.loads(row["words"])[0] == ["clouds"] for row in found.rows)
