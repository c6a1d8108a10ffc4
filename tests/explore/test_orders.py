"""Orders of images against ranking by hand, and 50,000 files."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from sclip_core.config import Settings, UserError, resolve
from sclip_core.explore.gallery import Collection
from sclip_core.explore.opening import open_collections
from sclip_core.explore.orders import Order, Orders
from sclip_core.results.files import read_run

from ..conftest import TINY
from ..results.runs import made_run

SKY_AND_CAT = {  # image: (intersect, prediction, label) of sky, grass, cat
    "a": [(50, 50, 100), (0, 0, 0), (0, 50, 0)],  # IoU 50 and 0: 25
    "b": [(100, 100, 100), (0, 0, 0), (0, 0, 0)],  # 100
    "c": [(0, 0, 100), (0, 100, 0), (0, 0, 0)],  # 0
    "elsewhere": [(1, 1, 1), (0, 0, 0), (0, 0, 0)],
}
BETTER = {**SKY_AND_CAT, "c": [(90, 90, 100), (0, 10, 0), (0, 0, 0)]}  # c: 90 and 0: 45


def own(folder: Path, artifacts: Path, **given: object) -> Collection:
    settings = resolve(images=folder, artifacts=artifacts, **TINY, **given)
    return open_collections(settings, own=True).collections[0]


def ids(page: dict) -> list[str]:
    return [image["id"] for image in page["images"]]


@pytest.fixture
def three(tmp_path: Path) -> Collection:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((20, 30, 3), np.uint8))
    (folder / "D broken.png").write_bytes(b"not an image")
    row = {"images": str(folder), "classes": "sky; grass; cat", **TINY}
    made_run(tmp_path / "artifacts", "own-1", SKY_AND_CAT, **row)
    made_run(tmp_path / "artifacts", "own-2", BETTER, **row, age=1)
    return own(folder, tmp_path / "artifacts", dataset="own")


def test_by_name_with_their_sizes(three):
    page = Orders(three).page("name", "", 0, 10)
    assert page["total"] == 4
    assert ids(page) == ["D broken", "a", "b", "c"]
    assert [image["size"] for image in page["images"]] == [[192, 256], *[[20, 30]] * 3]
    assert [image["broken"] for image in page["images"]] == [True, False, False, False]
    assert all(i["score"] is None and i["point"] is None for i in page["images"])


def test_worst_and_best_of_a_run_are_those_by_hand(three):
    orders = Orders(three)
    page = orders.page("worst:own-1", "", 0, 10)
    assert [(i["id"], i["score"]) for i in page["images"]] == [("c", 0), ("a", 25), ("b", 100)]
    assert page["total"] == 3  # one is not in the collection, and one was not scored
    assert ids(orders.page("best:own-1", "", 0, 10)) == ["b", "a", "c"]
    assert ids(orders.page("worst:own-2", "", 1, 1)) == ["c"]


def test_changed_between_runs_has_only_what_changed(three):
    page = Orders(three).page("changed:own-1,own-2", "", 0, 10)
    assert [(i["id"], i["score"]) for i in page["images"]] == [("c", 45)]


def test_scores_of_a_real_run_are_those_of_its_table(scenes_runs):
    (scenes,) = open_collections(Settings(artifacts=scenes_runs), own=False).collections
    run_id = scenes.runs[0]["run_id"]
    by_image: dict[str, list[float]] = {}
    for row in read_run(scenes_runs, run_id, "image_areas"):
        union = row["prediction"] + row["label"] - row["intersect"]
        by_image.setdefault(row["image_id"], []).extend(
            [100 * row["intersect"] / union] * (union > 0)
        )
    expected = sorted((float(np.mean(ious)), name) for name, ious in by_image.items())
    page = Orders(scenes).page(f"worst:{run_id}", "", 0, 100)
    assert [i["score"] for i in page["images"]] == pytest.approx([s for s, _ in expected], abs=1e-3)
    assert page["images"][0]["id"] == expected[0][1]
    assert all(i["encoded"] for i in page["images"])


def test_encoded_says_what_is_in_the_store_and_computes_no_digest(three):
    page = Orders(three).page("name", "", 0, 10)
    assert not any(image["encoded"] for image in page["images"])
    assert three.remembered(three.ids()) == [None] * 4


def test_after_a_copy_it_is_read_which_images_are_encoded_within_limits(
    scenes_runs, tmp_path, monkeypatch
):
    shutil.copytree(scenes_runs.parent, tmp_path / "r", dirs_exist_ok=True)
    artifacts = tmp_path / "r" / "artifacts"
    (artifacts / "digests.jsonl").unlink()

    def encoded(most: int) -> list[bool | None]:
        monkeypatch.setattr("sclip_core.explore.orders.MOST_READ", most)
        (scenes,) = open_collections(Settings(artifacts=artifacts), own=False).collections
        return [image["encoded"] for image in Orders(scenes).page("name", "", 0, 8)["images"]]

    assert encoded(10) == [None] * 8  # not known, which is not the same as not encoded
    assert encoded(2**25) == [True] * 8
    assert encoded(10) == [True] * 8  # remembered


def test_find_is_a_part_of_the_name_in_any_case(three):
    orders = Orders(three)
    assert ids(orders.page("name", "BROKEN", 0, 10)) == ["D broken"]
    assert orders.page("worst:own-1", "c", 0, 10)["total"] == 1
    assert orders.page("name", "nowhere", 0, 10) == {"total": 0, "images": []}
    assert orders.page("name", "[.*", 0, 10)["total"] == 0


def test_random_is_a_permutation_that_stays(three):
    first, second = (ids(Orders(three).page("random", "", 0, 10)) for _ in range(2))
    assert first == second
    assert sorted(first) == sorted(three.ids())


@pytest.mark.parametrize(
    "order",
    [
        "",
        "nonsense",
        "worst",
        "name:x",
        "worst:none",
        "changed:own-1",
        "search:x",
        "worst:" + "../" * 99,
    ],
)
def test_orders_that_there_are_not_are_one_line(three, order):
    with pytest.raises(UserError) as error:
        Orders(three).page(order, "", 0, 10)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_the_order_of_a_search_has_scores_and_points(three):
    found = Order(np.array([2, 1]), np.array([0.3, 0.2]), np.array([[5, 6], [7, 8]]))
    page = Orders(three, {"s1": found}.__getitem__).page("search:s1", "", 0, 10)
    assert [(i["id"], i["score"], i["point"]) for i in page["images"]] == [
        ("b", 0.3, [5, 6]),
        ("a", 0.2, [7, 8]),
    ]
    page = Orders(three, {"s1": found}.__getitem__).page("search:s1", "a", 0, 10)
    assert [(i["id"], i["score"], i["point"]) for i in page["images"]] == [("a", 0.2, [7, 8])]


@pytest.mark.parametrize(("start", "count"), [(-5, 2), (0, -1), (10**9, 5), (0, 10**9)])
def test_a_page_is_bounded(three, start, count):
    page = Orders(three).page("name", "", start, count)
    assert page["total"] == 4
    assert len(page["images"]) <= 4


def test_several_threads_ask_for_one_order(three):
    orders, found = Orders(three), []

    def ask() -> None:
        found.append(ids(orders.page("best:own-1", "", 0, 10)))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["b", "a", "c"]] * 8


def test_50_000_files_are_listed_and_paged(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((20, 30, 3), np.uint8))
    for k in range(50_000):
        if k % 20_000 == 0:  # a file has at most 65,000 names
            target = tmp_path / f"{k}.png"
            target.write_bytes((tmp_path / "one.png").read_bytes())
        os.link(target, folder / f"{k:06d}.png")
    many = own(folder, tmp_path / "artifacts")
    orders = Orders(many)
    assert ids(orders.page("name", "", 49_998, 200)) == ["049998", "049999"]
    assert orders.page("name", "0499", 0, 200)["total"] == sum(
        "0499" in f"{k:06d}" for k in range(50_000)
    )
    orders.page("random", "", 0, 200)
    taken = []
    for order, find in [("name", ""), ("random", ""), ("name", "77")]:
        start = time.perf_counter()
        page = orders.page(order, find, 0, 200)
        taken.append(time.perf_counter() - start)
        assert len(page["images"]) == 200
        assert page["images"][0]["size"] == [20, 30]
    print("seconds for a page:", taken)
    assert min(taken) < 0.1
