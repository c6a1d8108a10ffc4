"""Groups of classes: the published counts, the benchmarks' classes, and lists of one's own."""

from collections import Counter

import pytest

from sclip_core import UserError
from sclip_core.datasets import Vocabulary
from sclip_core.datasets.grouping import benchmark_groups, grouped_benchmarks, grouping
from sclip_core.demo.scenes import stuff_names

COUNTS = {
    "ade20k": {"things": 100, "stuff": 50},
    "coco_stuff": {"things": 80, "stuff": 91},
    "cityscapes": dict(
        flat=2, construction=3, object=3, nature=2, sky=1, human=2, vehicle=6
    ),
    "coco_object": dict(
        person=1, vehicle=8, outdoor=5, animal=10, accessory=5, sports=10, kitchen=7, food=10,
        furniture=6, electronic=6, appliance=5, indoor=7,
    ),
    "voc20": dict(person=1, animal=6, vehicle=7, indoor=6),
    "voc21": dict(person=1, animal=6, vehicle=7, indoor=6),
    "scenes": {"stuff": 8, "things": 7},
}  # fmt: skip


@pytest.mark.parametrize("name", grouped_benchmarks())
def test_the_groups_of_a_benchmark_are_of_its_classes(name):
    classes = Vocabulary.named(name).class_names
    found = benchmark_groups(name, classes)
    assert {group: len(numbers) for group, numbers in found.groups.items()} == COUNTS[name]
    assert found.without == (("background",) if name in ("voc21", "coco_object") else ())
    most = max(Counter(k for numbers in found.groups.values() for k in numbers).values())
    assert most == 1


def test_all_lists_have_counts():
    assert grouped_benchmarks() == sorted(COUNTS)


def members(name, group):
    classes = Vocabulary.named(name).class_names
    return {classes[k] for k in grouping(name, classes).groups[group]}


def test_some_members_by_name():
    assert members("voc21", "vehicle") == members("voc20", "vehicle")
    assert {"aeroplane", "train", "motorbike"} < members("voc21", "vehicle")
    assert members("cityscapes", "human") == {"person", "rider"}
    assert members("coco_object", "appliance") == {
        "microwave", "oven", "toaster", "sink", "refrigerator"
    }  # fmt: skip
    assert {"wall", "sky", "tree", "sea", "rug", "shower"} < members("ade20k", "stuff")
    assert {"curtain", "fence", "windowpane", "flag"} < members("ade20k", "things")
    assert {"toothbrush", "person"} < members("coco_stuff", "things")
    assert members("scenes", "stuff") == set(stuff_names())


def test_a_list_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('# mine\nclass,group\n"sky, blue",above\n1,below\n')
    found = grouping(path, ["sky, blue", "grass", "cat"])
    assert found.groups == {"above": (0,), "below": (1,)}
    assert found.note == "1 class in no group: cat"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,group\n", "has no line"),
        ("sky\n", "expected lines `class,group`, found 'sky'"),
        ("sky,a\nsky,b\n", "sky stands in two lines"),
        ("skye,a\n", "Did you mean 'sky'"),
        ("7,a\n", "unknown class"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path, text, said):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        grouping(path, ["sky", "grass"])
    with pytest.raises(UserError, match="one of ade20k, cityscapes"):
        grouping(tmp_path / "none.csv", ["sky"])


def test_a_run_with_other_words_has_no_groups():
    assert benchmark_groups("voc21", ["cat", "dog"]) is None
    assert benchmark_groups("context59", ["cat", "dog"]) is None
