"""The same runs on a folder and in a bucket, and the commands that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclip_core.demo.scenes.files import write_scenes
from sclip_core.store import places
from sclip_core.store.objects import bucket as buckets
from sclip_core.store.objects.bucket import bucket_of
from tests.flows.conftest import flags
from tests.torture.forked import spawned
from tests.torture.place import figures
from tests.torture.proxy import Proxy

from ..conftest import TINY


def settings(small, artifacts, **others):
    given = {name: small / name for name in ("images", "labels")}
    return {**given, "classes": small / "classes.txt", "artifacts": artifacts, **TINY, **others}


def run(sclip, small, artifacts, **others):
    code, out, err = sclip("run", "--direct", *flags(small, artifacts, **others))
    assert code == 0, err
    return out, err


def keys(root):
    """Every artifact below a folder or place, by stage and key."""
    stages = [each for each in places.children(root) if each.name in STAGES]
    return sorted(f"{each.name}/{key.name}" for each in stages for key in places.children(each))


STAGES = ("text_bank", "dense_features", "trunk", "refine", "metrics", "proposals", "hybrid")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where files go that belong to this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "others", [{}, {"mode": "hybrid", "proposals": "felzenszwalb"}], ids=["dense", "hybrid"]
)
def test_the_same_on_a_folder_and_in_a_bucket(sclip, small, bucket, tmp_path, cache, others):
    folder = tmp_path / "artifacts"
    run(sclip, small, folder, **others)
    run(sclip, small, bucket, **others)
    assert keys(bucket) == keys(folder)
    assert len(keys(folder)) >= 4
    wanted = figures(settings(small, folder, **others))
    assert figures(settings(small, bucket, **others)) == wanted
    assert sum(name.startswith("label map") for name in wanted) == 3
    out, _ = run(sclip, small, bucket, **others)
    assert "computed" not in out.split("┡")[1]  # the second time, everything is there
    assert sorted(each.name for each in tmp_path.iterdir()) == ["artifacts", "cache"]


def test_commands_that_read(sclip, small, bucket, tmp_path, cache):
    for place in (tmp_path / "artifacts", bucket):
        run(sclip, small, place)
        run(sclip, small, place, pamr_steps=2)
    for words in (
        ["results"],
        ["query", "select miou, num_images from runs order by miou", "--format=csv"],
        ["query"],
        ["compare", "latest", "latest~1", "--format=csv", "--resamples=100"],
    ):
        told = [sclip(*words, f"--artifacts={place}") for place in (tmp_path / "artifacts", bucket)]
        assert told[0][0] == told[1][0] == 0
        if words != ["results"]:  # which has times
            assert told[0] == told[1]
    code, out, err = sclip("report", "latest", f"--artifacts={bucket}")
    assert code == 0, err
    assert Path(out.strip()).is_relative_to(cache)
    assert Path(out.strip()).is_file()
    code, out, _ = sclip("plan", *flags(small, bucket))
    assert code == 0
    assert out.count("complete") >= 4
    code, out, _ = sclip("plan", *flags(small, bucket, pamr_steps=3))
    assert "pamr_steps" in out


def test_few_requests(sclip, small, bucket, s3_server, monkeypatch, cache):
    def counted():
        with Proxy(s3_server) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            bucket_of.cache_clear()
            run(sclip, small, bucket)
        return proxy.counts

    first, again = counted(), counted()
    assert first["PUT"] == 2 + 4 + 4 + 4  # the probe, manifests, batches, results
    assert first.total() < 75
    assert again["PUT"] == again["DELETE"] == 0
    assert again.total() < 40


SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAGEHEIMNIS",
    "AWS_SECRET_ACCESS_KEY": "sehrgeheim/abc+",
    "AWS_SESSION_TOKEN": "geheimesitzung==",
}


def test_credentials_are_written_nowhere(sclip, small, bucket, tmp_path, cache, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    bucket_of.cache_clear()
    said = [*run(sclip, small, bucket)]
    for place in (bucket, "s3://no-such-bucket/x"):
        said += map(str, sclip("results", f"--artifacts={place}"))
    with monkeypatch.context() as dead:
        dead.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        dead.setattr(buckets, "QUICK", 0.1)
        dead.setattr(buckets, "TIMEOUTS", {0.1: "1s", buckets.PATIENT: "1s"})
        bucket_of.cache_clear()
        code, out, err = sclip("results", f"--artifacts={bucket}")
    bucket_of.cache_clear()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no connection to http://127.0.0.1:9" in err
    stored = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    objects = bucket_of(bucket.bucket)
    stored += [objects.read(each.path) for each in objects.entries(bucket)]
    for secret in SECRETS.values():
        assert not any(secret in text for text in [*said, out, err])
        assert not any(secret.encode() in data for data in stored)
    assert len(stored) > 12


@pytest.mark.parametrize("words", [["gc"], ["gc", "--check"], ["gc", "--delete"]])
def test_gc_is_for_folders(sclip, cache, words):
    code, out, err = sclip(*words, "--artifacts", "s3://bucket/x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "`aws s3 rm --recursive s3://bucket/x/STAGE/KEY`" in err
    assert list(cache.parent.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_writers(sclip, small, bucket, tmp_path, cache, processes):
    """The same run at once in several processes: all end well, with the same figures."""
    words = ["run", "--direct", *flags(small, bucket)]
    children = [spawned(words, tmp_path / "output") for _ in range(processes)]
    ended = [child.wait(180) for child in children]
    assert [each.code for each in ended] == [0] * processes, [each.err for each in ended]
    folder = tmp_path / "artifacts"
    run(sclip, small, folder)
    assert figures(settings(small, bucket)) == figures(settings(small, folder))


@pytest.mark.slow
def test_two_hundred_scenes(sclip, bucket, tmp_path, cache):
    write_scenes(tmp_path / "scenes", 200)
    given = {"preset": "demo", "dataset": "scenes", "data_root": tmp_path / "scenes"}
    found = []
    for place in (tmp_path / "artifacts", bucket):
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        code, _, err = sclip("run", "--direct", *words, f"--artifacts={place}", "--num-samples=200")
        assert code == 0, err
        found.append(figures({**given, "artifacts": place, "num_samples": 200}))
    assert found[0] == found[1]
    assert len(found[0]) == 204
