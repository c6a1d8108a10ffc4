"""PNGs that were exported, scored as another tool's predictions: the scores of the run."""

from __future__ import annotations

import pytest

from sclip_core.results import runs


@pytest.mark.parametrize(("values", "read_as"), [("dataset", "raw"), ("classes", "classes")])
@pytest.mark.parametrize("kind", ["dense", "hybrid"])
def test_the_scores_are_those_of_the_run(tmp_path, request, values, read_as, kind):
    from flows import cli
    from sclip_core.exports import write_png

    run = request.getfixturevalue(kind)
    write_png(run, tmp_path / "maps", values)
    given = {
        "predictions": tmp_path / "maps",
        "prediction-values": read_as,
        "dataset": "scenes",
        "data-root": run.row["data_root"],
        "num-samples": len(run),
        "artifacts": tmp_path / "artifacts",
    }
    assert cli.main(["score", *(f"--{name}={value}" for name, value in given.items())]) == 0
    (scored,) = runs(tmp_path / "artifacts").to_pylist()
    for score in ("miou", "macc", "aacc"):
        assert scored[score] == pytest.approx(run.row[score])
