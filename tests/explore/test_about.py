"""What the page is told of runs."""

from __future__ import annotations

from sclip_core.explore.about import _run_about

ROW = {"run_id": "r", "attention": "csa", "mode": "dense", "pamr_steps": 10, "miou": 84.761}


def test_a_run_has_the_view_that_shows_its_labels():
    run = _run_about(ROW)
    assert (run["title"], run["miou"]) == ("csa, PAMR 10", 84.76)
    assert run["view"] == {"method": "csa", "pamr_steps": 10}


def test_no_view_shows_the_labels_of_a_run_with_masks():
    run = _run_about({**ROW, "mode": "hybrid"})
    assert run["title"] == "csa, PAMR 10, hybrid with masks"
    assert run["view"] is None
