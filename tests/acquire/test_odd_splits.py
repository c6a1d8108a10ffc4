"""A list of images that is none: refused in one line, and never waited for."""

from __future__ import annotations

import os

import pytest

from sclip_core.acquire.check import check
from sclip_core.acquire.prepare import prepare
from sclip_core.acquire.status import status
from sclip_core.config import UserError

from . import trees

SPLIT = f"{trees.VOC}/ImageSets/Segmentation/val.txt"


@pytest.mark.parametrize("line", ["a\0b", "x" * 300, "a\x1b[2Jb"])
def test_a_line_that_is_no_name_of_a_file(line, tmp_path):
    trees.SETS["voc21"][0](tmp_path)
    with (tmp_path / SPLIT).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"val\.txt lists .*, which is not a file name"):
        check("voc21", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    trees.SETS["voc21"][0](tmp_path)
    (tmp_path / SPLIT).unlink()
    os.mkfifo(tmp_path / SPLIT)
    with pytest.raises(UserError, match=r"val\.txt is not a file: expected a list of images"):
        check("voc21", tmp_path)
    assert status("voc21", tmp_path).pairs == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_in_the_place_of_a_map_differs(tmp_path):
    trees.SETS["coco_stuff"][0](tmp_path)
    target = trees.place("coco_stuff", tmp_path, trees.COCO_IDS[0])
    os.mkfifo(target)
    assert prepare("coco_stuff", tmp_path).differing == [target]
