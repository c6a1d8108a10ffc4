"""Keys: the same for the same computation, another for any other."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sclip_core import UserError
from sclip_core.config import resolve
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run
from sclip_core.store.artifact import Artifact, Identity, manifest_text
from sclip_core.store.keys import KEY_LENGTH, artifact_key, canonical_json

from ..conftest import TINY
from ..flows.conftest import write_own

IDENTITY = Identity("refine", 1, {"a": 1, "b": [1, 2]}, {"x": "0", "y": "1"}, "cafe")


def test_canonical_json():
    assert canonical_json({"b": 1, "a": [1.5, "ü", None]}) == '{"a":[1.5,"\\u00fc",null],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_independent_of_order_and_of_kind_of_list():
    other = Identity("refine", 1, {"b": (1, 2), "a": 1}, {"y": "1", "x": "0"}, "cafe")
    assert other.key == IDENTITY.key
    assert len(IDENTITY.key) == KEY_LENGTH


def test_of_today():
    """Written down: a change of it makes every artifact of every user useless."""
    assert artifact_key({"stage": "refine", "settings": {"a": 1}}) == "8106f513e8b74945"


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "metrics"},
        {"version": 2},
        {"settings": {"a": 2, "b": [1, 2]}},
        {"settings": {"a": 1, "b": [2, 1]}},
        {"settings": {"a": "1", "b": [1, 2]}},
        {"settings": {"a": 1}},
        {"upstream": {"x": "0", "y": "2"}},
        {"upstream": {"x": "0"}},
        {"weights_sha256": None},
    ],
)
def test_another_for_every_change(change):
    assert replace(IDENTITY, **change).key != IDENTITY.key


def test_nothing_is_added_to_a_folder_of_other_settings(tmp_path):
    Artifact(tmp_path, IDENTITY).create({"versions": {}})
    manifest = tmp_path / "refine" / IDENTITY.key / "manifest.json"
    assert json.loads(manifest.read_text())["settings"] == {"a": 1, "b": [1, 2]}
    Artifact(tmp_path, IDENTITY).create({"versions": {"other": 1}})  # provenance is not compared
    assert "other" not in manifest.read_text()
    whole = manifest.read_text()
    before = {k: v for k, v in json.loads(whole).items() if k != "check"}  # as version 0.1.0 wrote
    other = {**before, "settings": {"a": 2, "b": [1, 2]}}
    for text in (manifest_text(other), json.dumps(other, indent=2) + "\n"):
        manifest.write_text(text)
        with pytest.raises(UserError, match="does not match the name of its folder"):
            Artifact(tmp_path, IDENTITY).rows()
    manifest.write_text(json.dumps(before, indent=2) + "\n")
    assert not Artifact(tmp_path, IDENTITY).create({})


def test_a_damaged_manifest_is_written_again(tmp_path):
    """Every byte of it; the folder's name says as much as it did."""
    artifact = Artifact(tmp_path, IDENTITY)
    artifact.create({"versions": {"torch": "2.6"}})
    manifest = tmp_path / "refine" / IDENTITY.key / "manifest.json"
    good = manifest.read_bytes()
    for position in range(len(good)):
        spoilt = bytearray(good)
        spoilt[position] ^= 1 << position % 8
        manifest.write_bytes(spoilt)
        assert artifact.create({"versions": {"torch": "2.6"}}), position
        assert manifest.read_bytes() == good
    for junk in (b"", b"[]", b"\xff", b"[" * 100_000, good[:-1]):
        manifest.write_bytes(junk)
        assert artifact.rows() == {}
        assert artifact.create({"versions": {"torch": "2.6"}})
    manifest.unlink()
    assert not artifact.create({"versions": {"torch": "2.6"}})
    assert manifest.read_bytes() == good


class TestStages:
    """The keys of a run's stages, by setting: what runs again is tested with the stages."""

    @pytest.fixture(scope="class")
    def keys(self, tmp_path_factory):
        root = tmp_path_factory.mktemp("keys")
        own = write_own(root / "own", 1)
        paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}

        def of(**settings: object) -> dict[str, str]:
            given = {**paths, **TINY, "artifacts": root / "artifacts", **settings}
            stages = Pipeline.of(Run(resolve(**given)))
            return {stage.name: stage.key for stage in stages if stage.name != "results"}

        return of

    @pytest.mark.parametrize(
        "change",
        [
            {"device": "cpu"},
            {"batch_size": 3},
            {"workers": 0},
            {"shards": 4},
            {"strict": True},
            {"force": "refine"},
            {"num_samples": 1},
            {"dataset": "another"},
            {"artifacts": "elsewhere"},
            {"dtype": "fp32"},  # what auto is on a CPU
            {"attention": "csa:vanilla"},  # what csa is
            {"pamr_dilations": (1, 2)},  # without steps
        ],
    )
    def test_the_same(self, keys, change, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert keys(**change) == keys()

    @pytest.mark.parametrize(
        ("change", "stages"),
        [
            ({"attention": "kk"}, 3),
            ({"dtype": "bf16"}, 3),
            ({"short_side": 300}, 3),
            ({"slide_crop": 200}, 3),
            ({"slide_stride": 100}, 3),
            ({"pamr_steps": 1}, 2),
            ({"logit_scale": 50}, 2),
            ({"prob_thd": 0.5}, 2),
            ({"area_thd": 0.5}, 2),
            ({"ignore_label": (1,)}, 1),
            ({"reduce_zero_label": True}, 1),
        ],
    )
    def test_another(self, keys, change, stages):
        now, before = keys(**change), keys()
        changed = [name for name in now if now[name] != before[name]]
        assert changed == ["dense_features", "refine", "metrics"][-stages:]

    def test_stride_without_windows(self, keys):
        assert keys(slide_crop=0, slide_stride=50) == keys(slide_crop=0)
