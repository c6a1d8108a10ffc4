"""``sclip tune``: chosen on one part, reported on the other, in one pass of the encoder."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil

import pytest

from sclip_core import results
from sclip_core.results.split import in_part

from ..results.test_tuning import slow_miou
from .conftest import flags, write_own

GRID = {"pamr_steps": "1,2", "prob_thd": "0.2,0.5"}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Twelve pictures of a few patches."""
    return write_own(tmp_path_factory.mktemp("many"), 12)


def tuned(sclip, own, artifacts, *more, **grid):
    code, out, err = sclip("tune", "--direct", "--json", *flags(own, artifacts, **grid), *more)
    assert code == 0, err
    return json.loads(out), err


def test_figures_are_those_of_the_images_of_each_part(many, tmp_path, sclip, windows):
    artifacts = tmp_path / "artifacts"
    found, err = tuned(sclip, many, artifacts, "--seed", "3", **GRID)
    once = sum(windows)
    digest = {p.stem: hashlib.sha256(p.read_bytes()).hexdigest() for p in many.glob("images/*")}
    tuning = {name for name in digest if in_part(digest[name], 0.5, 3)}
    rest = set(digest) - tuning
    assert found["images"] == {"tuning": len(tuning), "rest": len(rest)}
    for point in found["points"]:
        rows = results.image_areas(point["run_id"], artifacts).to_pylist()
        rows = [{**row, "image_id": row["image_id"].rpartition("/")[2]} for row in rows]
        for part, wanted in (("tuning", tuning), ("rest", rest), ("all", set(digest))):
            assert point[part] == pytest.approx(slow_miou(rows, wanted))
    points = {point["run_id"]: point for point in found["points"]}
    candidates = [point for point in found["points"] if point["candidate"]]
    winner = points[found["winner"]["run_id"]]
    assert winner["tuning"] == max(point["tuning"] for point in candidates)
    assert found["winner"]["value"] == pytest.approx(winner["rest"])
    best = max(point["rest"] for point in candidates)
    assert found["optimism"] == pytest.approx(best - winner["rest"])
    assert found["naive"]["value"] == pytest.approx(max(point["all"] for point in candidates))
    # the protocol's own is none of the points, and was scored beside them
    assert not points[found["default"]]["candidate"]
    assert points[found["default"]]["settings"] == {"pamr_steps": "0", "prob_thd": "0"}
    gain = winner["rest"] - points[found["default"]]["rest"]
    assert found["gain"]["value"] == pytest.approx(gain)
    # its flags give the same run, and no image was encoded twice
    again = sclip("run", "--direct", *flags(many, artifacts), *shlex.split(found["flags"]))
    assert again[0] == 0
    assert found["winner"]["run_id"] in again[1]
    assert sum(windows) == once
    assert err.count("dense_features  computed") == 1


def test_parts_stay_where_names_and_other_images_change(many, tmp_path, sclip):
    first, _ = tuned(sclip, many, tmp_path / "a", pamr_steps="0,1")
    renamed = tmp_path / "renamed"
    shutil.copytree(many, renamed)
    for folder in ("images", "labels"):
        for path in sorted((renamed / folder).iterdir()):
            path.rename(path.with_stem(f"z{99 - int(path.stem)}"))
    second, _ = tuned(sclip, renamed, tmp_path / "b", pamr_steps="0,1")
    assert second["images"] == first["images"]
    for one, other in zip(first["points"], second["points"], strict=True):
        assert one["run_id"] != other["run_id"]
        assert one["rest"] == pytest.approx(other["rest"])
    other, _ = tuned(sclip, many, tmp_path / "a", "--seed", "1", pamr_steps="0,1")
    assert [p["tuning"] for p in other["points"]] != [p["tuning"] for p in first["points"]]


def test_what_is_printed(many, tmp_path, sclip):
    given = flags(many, tmp_path / "artifacts", pamr_steps="0,1,2", prob_thd=0)
    code, out, err = sclip("tune", "--direct", "--seed", "3", *given)
    assert code == 0, err
    rows = re.findall(r"│ ([012]) +│ +(\*? ?[\d.]+) │ +(\*? ?[\d.]+) │ +(\*? ?[\d.]+) │", out)
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert [sum("*" in row[place] for row in rows) for place in (1, 2, 3)] == [1, 1, 1]
    (line,) = [line for line in out.splitlines() if line.startswith("to run it: ")]
    steps = line.removeprefix("to run it: sclip run ... --pamr-steps ")
    winner = rows[int(steps)]
    assert "*" in winner[1]
    assert f"held out: mIoU {winner[2].strip('* ')}" in out
    assert "optimism: " in out
    assert "so few say little" in out
    assert re.search(r"tuning part: \d+ of 12 images, other part: \d+ \(--part 0.5 --seed 3; ", out)
    asked = "select pamr_steps, miou_rest from tune join runs using (run_id) where is_winner"
    (found,) = results.query(asked, tmp_path / "artifacts").to_pylist()
    assert found["pamr_steps"] == int(steps)
    assert f"{found['miou_rest']:.2f}" == winner[2].strip("* ")
    assert results.tunings(tmp_path / "artifacts")["tune_id"].unique().to_pylist() == [
        path.stem for path in (tmp_path / "artifacts" / "results" / "tune").iterdir()
    ]
    assert sclip("results", "--artifacts", tmp_path / "artifacts")[0] == 0


def test_a_search_over_a_range(many, tmp_path, sclip):
    more = ("--trials", "4", "--seed", "2")
    found, _ = tuned(sclip, many, tmp_path / "a", *more, prob_thd="0.3..0.6", pamr_steps="0,1")
    values = [float(p["settings"]["prob_thd"]) for p in found["points"] if p["candidate"]]
    assert len(values) == len(set(values)) == 4
    assert all(0.3 <= value <= 0.6 for value in values)
    again, _ = tuned(sclip, many, tmp_path / "a", *more, prob_thd="0.3..0.6", pamr_steps="0,1")
    assert again == found


def test_what_the_encoder_reads_may_vary_and_its_cost_is_said(many, tmp_path, sclip):
    found, err = tuned(sclip, many, tmp_path / "a", attention="csa,kk")
    assert "note: attention varies: features are made for each value; " in err
    assert [p["settings"] for p in found["points"]] == [{"attention": "csa"}, {"attention": "kk"}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pamr-steps=1"], "one point: nothing to choose"),
        (["--pamr-steps=0,1", "--part=1"], "--part 1: expected a share of the images"),
        (["--prob-thd=0.1..0.5"], "a range of prob_thd: say how many points by --trials N"),
        (["--prob-thd=0.1..2", "--trials=3"], "prob_thd=2"),
        (["--pamr-steps=0,1", "--part=0.000001"], "the tuning part has none of the 12 images"),
    ],
)
def test_refused(many, tmp_path, sclip, options, words):
    code, _, err = sclip("tune", "--direct", *flags(many, tmp_path / "artifacts"), *options)
    assert code == 2
    assert words in err.splitlines()[-1]


def test_a_seed_that_no_table_holds_is_refused_first(many, tmp_path, sclip):
    words = [*flags(many, tmp_path / "a", pamr_steps="0,1"), "--seed", str(1 << 63)]
    code, out, err = sclip("tune", "--direct", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--seed" in err
    assert not (tmp_path / "a").exists()
