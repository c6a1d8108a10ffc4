"""Ranges of a search, and the points that are drawn."""

from __future__ import annotations

import pytest

from sclip_core.config import UserError, resolve_several
from sclip_core.config.trials import at_end, drawn_points, ranges_of

OWN = {"images": "images", "labels": "labels", "classes": "classes.txt"}


def grid(**given):
    return resolve_several(**OWN, **given)


def test_ranges_are_read():
    given = {"prob_thd": "0.1..0.6", "pamr_steps": "0..20", "logit_scale": "30,40",
             "images": "../x", "area_thd": ".1..0.5", "labels": "a..b"}  # fmt: skip
    found = ranges_of(given)
    assert found == {"prob_thd": (0.1, 0.6), "pamr_steps": (0, 20), "area_thd": (0.1, 0.5)}
    assert at_end(given, found, 1)["pamr_steps"] == "20"
    assert at_end(given, found, 0)["prob_thd"] == "0.1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prob_thd": "0.6..0.1"}, "--prob-thd 0.6..0.1: expected two numbers LOW..HIGH"),
        ({"prob_thd": "a..b"}, "--prob-thd a..b: expected two numbers"),
        ({"pamr_steps": "0..2.5"}, "--pamr-steps 0..2.5: expected two whole numbers"),
        ({"short_side": "200..300"}, "--short-side 200..300: ranges are for pamr_steps, "),
    ],
)
def test_no_ranges(given, words):
    with pytest.raises(UserError) as caught:
        ranges_of(given)
    assert words in str(caught.value)


def test_drawn_from_ranges_within_their_ends():
    base = grid(prob_thd="0.1", pamr_steps="0", logit_scale="30,50")
    ranges = {"prob_thd": (0.1, 0.6), "pamr_steps": (0.0, 20.0)}
    points = drawn_points(base, ranges, 200, seed=1)
    thresholds = [point.prob_thd for point in points]
    assert 0.1 <= min(thresholds) < 0.15
    assert 0.55 < max(thresholds) <= 0.6
    assert {point.pamr_steps for point in points} == set(range(21))
    assert {point.logit_scale for point in points} == {30.0, 50.0}
    assert points == drawn_points(base, ranges, 200, seed=1)
    assert points != drawn_points(base, ranges, 200, seed=2)
    assert all(float(f"{value:.6g}") == value for value in thresholds)  # can be typed again


def test_a_random_part_of_a_grid():
    whole = grid(pamr_steps="0,5,10,20", prob_thd="0.1,0.2,0.3")
    points = drawn_points(whole, {}, 5, seed=3)
    assert len(points) == 5
    places = [whole.index(point) for point in points]
    assert places == sorted(set(places))
    assert drawn_points(whole, {}, 100) == whole


def test_draws_of_what_changes_no_label_are_one_point():
    base = grid(prob_thd="0", logit_scale="30")
    assert len(drawn_points(base, {"logit_scale": (30.0, 60.0)}, 20)) == 1
