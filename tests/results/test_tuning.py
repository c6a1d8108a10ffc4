"""Settings chosen on one part and scored on the other: the division, the figures, the optimism."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sclip_core import UserError, results
from sclip_core.evaluation import bootstrap
from sclip_core.results.split import in_part, parts_of
from sclip_core.results.tuning import write_tuning

from .runs import made_run

DIGESTS = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(60)]
IDS = [f"{i:03}" for i in range(60)]
DIGEST_OF = dict(zip(IDS, DIGESTS, strict=True))
PIXELS = 100
digests = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, unique=True)


def two_class_image(right: int) -> list[tuple[int, int, int]]:
    """``right`` of 100 pixels of class 0 are right, the others are called class 1."""
    return [(right, right, PIXELS), (0, PIXELS - right, 0), (0, 0, 0)]


def slow_miou(rows: Sequence[dict], wanted: set[str]) -> float:
    """By loops over ``image_areas``."""
    sums: dict[int, list[int]] = {}
    for row in rows:
        if row["image_id"] in wanted:
            found = sums.setdefault(row["class_id"], [0, 0])
            found[0] += row["intersect"]
            found[1] += row["prediction"] + row["label"] - row["intersect"]
    return sum(100 * i / u for i, u in sums.values()) / len(sums)


# --- the division


@given(digests, st.floats(0.05, 0.95), st.integers(0, 9))
def test_the_part_of_an_image_depends_on_nothing_but_its_bytes(some, part, seed):
    ids = [str(i) for i in range(len(some))]
    alone = [in_part(digest, part, seed) for digest in some]
    named = dict(zip(ids, some, strict=True))
    if 0 < sum(alone) < len(alone):
        assert parts_of(ids, named, part, seed).tolist() == alone
        assert parts_of(ids[::-1], named, part, seed).tolist() == alone[::-1]
    else:
        with pytest.raises(UserError, match="part has none of the"):
            parts_of(ids, named, part, seed)
    for digest, is_in in zip(some, alone, strict=True):
        value = int(hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()[:16], 16) / 2**64
        assert is_in == (value < part)
        assert not is_in or in_part(digest, min(1.0, part + 0.05), seed)  # a larger part has it too


def test_seeds_divide_independently_and_shares_are_kept():
    many = [hashlib.sha256(f"x{i}".encode()).hexdigest() for i in range(4000)]
    first, second = (np.array([in_part(d, 0.3, seed) for d in many]) for seed in (0, 1))
    for found in (first, second):
        assert abs(found.mean() - 0.3) < 4 * np.sqrt(0.21 / 4000)
    assert abs((first & second).mean() - 0.09) < 0.02


@pytest.mark.parametrize("part", [0, 1, -1, 2])
def test_a_share_that_is_none_is_refused(part):
    with pytest.raises(UserError, match=f"--part {part}: expected a share"):
        parts_of(IDS, DIGEST_OF, part)


# --- the figures


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    """Eight runs of random areas in three classes."""
    root = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(4)
    labels = rng.integers(1, PIXELS, (60, 3))
    for point in range(8):
        areas = {}
        for image, label in zip(IDS, labels, strict=True):
            intersect = rng.binomial(label, rng.uniform(0.3, 0.9))
            wrong = rng.multinomial((label - intersect).sum(), [1 / 3] * 3)
            areas[image] = list(zip(*(a.tolist() for a in (intersect, intersect + wrong, label)),
                                    strict=True))  # fmt: skip
        made_run(root, f"own-{point}", areas, pamr_steps=point)
    return root


@pytest.mark.parametrize(("part", "seed"), [(0.5, 0), (0.3, 7)])
def test_every_figure_is_a_slow_sum(noisy, part, seed):
    runs = [f"own-{point}" for point in range(8)]
    found = results.tuned(runs, part, seed, "own-0", noisy, DIGEST_OF, resamples=300)
    tuning = {i for i in IDS if in_part(DIGEST_OF[i], part, seed)}
    rest = set(IDS) - tuning
    assert found.counts == (len(tuning), len(rest))
    slow = {}
    for place, run_id in enumerate(runs):
        rows = results.image_areas(run_id, noisy).to_pylist()
        slow[run_id] = [slow_miou(rows, wanted) for wanted in (tuning, rest, set(IDS))]
        fast = found.tuning[place], found.rest[place], found.whole[place]
        assert fast == pytest.approx(slow[run_id])
    winner = max(runs, key=lambda run_id: slow[run_id][0])
    assert runs[found.winner] == winner
    assert runs[found.best_of_rest] == max(runs, key=lambda run_id: slow[run_id][1])
    assert runs[found.naive] == max(runs, key=lambda run_id: slow[run_id][2])
    best_there = max(value[1] for value in slow.values())
    assert found.optimism == pytest.approx(best_there - slow[winner][1])
    assert found.held_out(found.winner).value == pytest.approx(slow[winner][1])
    gain = found.gain(found.winner, 0)
    assert gain.value == pytest.approx(slow[winner][1] - slow["own-0"][1])
    pairs = results.paired([winner, "own-0"], noisy)
    kept = np.array([image in rest for image in pairs.images])
    drawn = bootstrap([type(a)(*(x[kept] for x in a)) for a in pairs.areas], 300)
    assert gain == pytest.approx(drawn.difference("miou", 0, 1))
    assert found.on_all(0).value == pytest.approx(slow["own-0"][2])


def test_the_optimism_of_a_made_case(tmp_path):
    """Two settings: one is right on the tuning part, the other on the rest."""
    tuning = {i for i in IDS if in_part(DIGEST_OF[i], 0.5)}
    for name, here, there in (("a", 90, 50), ("b", 80, 60), ("c", 70, 55)):
        areas = {i: two_class_image(here if i in tuning else there) for i in IDS}
        made_run(tmp_path, f"own-{name}", areas)
    found = results.tuned(["own-a", "own-b", "own-c"], default="own-c", artifacts=tmp_path,
                          digests=DIGEST_OF)  # fmt: skip
    # IoU of class 0 is the share of right pixels, that of class 1, which no image has, is 0
    assert found.tuning.tolist() == [45, 40, 35]
    assert found.rest.tolist() == [25, 30, 27.5]
    assert (found.winner, found.best_of_rest) == (0, 1)
    assert found.optimism == 5
    gain = found.gain(0, 2)
    assert gain == (-2.5, -2.5, -2.5)  # all images are alike: no draw differs
    assert found.held_out(0) == (25, 25, 25)
    left, right = (len(part) / 60 for part in (tuning, set(IDS) - tuning))
    assert found.whole[0] == pytest.approx((90 * left + 50 * right) / 2)


def test_of_equal_points_the_one_with_fewer_steps_wins(tmp_path):
    areas = {i: two_class_image(50) for i in IDS}
    for name, steps in (("a", 10), ("b", 5), ("c", 5)):
        made_run(tmp_path, f"own-{name}", areas, pamr_steps=steps)
    runs = ["own-a", "own-b", "own-c"]
    found = results.tuned(runs, artifacts=tmp_path, digests=DIGEST_OF)
    assert (found.tied, found.winner) == ((1, 2, 0), 1)
    assert found.optimism == 0
    chosen = results.tuned(runs, artifacts=tmp_path, digests=DIGEST_OF, candidates=["own-c"])
    assert chosen.winner == 2


def test_a_run_that_is_no_candidate_is_not_chosen_anywhere(tmp_path):
    for name, right in (("a", 90), ("b", 50), ("c", 70)):
        made_run(tmp_path, f"own-{name}", {i: two_class_image(right) for i in IDS})
    runs = ["own-a", "own-b", "own-c"]
    found = results.tuned(runs, default="own-a", artifacts=tmp_path, digests=DIGEST_OF,
                          candidates=["own-b", "own-c"])  # fmt: skip
    assert (found.winner, found.naive, found.best_of_rest) == (2, 2, 2)
    assert found.optimism == 0
    assert found.gain(found.winner, found.default).value == -10  # IoU of two classes, one of them 0


def test_small_parts_and_absent_classes_are_said(tmp_path):
    tuning = [i for i in IDS if in_part(DIGEST_OF[i], 0.5)][:3]
    rest = [i for i in IDS if not in_part(DIGEST_OF[i], 0.5)][:6]
    areas = {i: two_class_image(50) for i in (*tuning, *rest)}
    areas[tuning[0]] = [(50, 50, 50), (0, 0, 0), (9, 9, 9)]
    made_run(tmp_path, "own-a", areas)
    made_run(tmp_path, "own-b", areas)
    found = results.tuned(["own-a", "own-b"], artifacts=tmp_path, digests=DIGEST_OF)
    assert list(found.warnings()) == [
        "the tuning part has 3 images: so few say little",
        "the other part has 6 images: so few say little",
        "1 class is labelled in the tuning part alone (cat): the means of the parts are over "
        "different classes",
    ]
    assert not np.isnan(found.held_out(0).low)
    assert np.isnan(found.gain(0, 1, "tuning").low)  # of fewer than five images


def test_the_file_of_a_tuning(noisy):
    found = results.tuned(["own-1", "own-2"], default="own-2", artifacts=noisy, digests=DIGEST_OF)
    path = write_tuning(found, noisy)
    rows = pq.read_table(path).to_pylist()
    assert [row["run_id"] for row in rows] == ["own-1", "own-2"]
    assert [row["miou_rest"] for row in rows] == found.rest.tolist()
    assert [row["is_default"] for row in rows] == [False, True]
    assert sum(row["is_winner"] for row in rows) == 1
    joined = results.query(
        f"select pamr_steps, miou_all, miou from '{path}' join runs using (run_id) order by 1",
        noisy,
    ).to_pylist()
    assert [row["pamr_steps"] for row in joined] == [1, 2]
    assert all(row["miou_all"] == pytest.approx(row["miou"]) for row in joined)


def test_another_tuning_is_another_file(noisy):
    runs = ["own-1", "own-2", "own-3"]
    ways = [
        {},
        {"part": 0.4},
        {"seed": 1},
        {"candidates": runs[1:]},
        {"candidates": runs[:2]},
    ]
    found = [results.tuned(runs, **way, artifacts=noisy, digests=DIGEST_OF).name for way in ways]
    found.append(results.tuned(runs[:2], artifacts=noisy, digests=DIGEST_OF).name)
    assert len(set(found)) == len(found)
    again = results.tuned(runs, candidates=runs, artifacts=noisy, digests=DIGEST_OF)
    assert again.name == found[0]


def test_refused(noisy):
    with pytest.raises(UserError, match="own-1 is named twice"):
        results.tuned(["own-1", "own-1"], artifacts=noisy, digests=DIGEST_OF)
    with pytest.raises(UserError, match="own-9 is not among the runs: own-1, own-2"):
        results.tuned(["own-1", "own-2"], default="own-9", artifacts=noisy, digests=DIGEST_OF)
