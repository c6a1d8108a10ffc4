"""Make ``scored.npz``: random maps, and what mmsegmentation and cityscapesScripts say of them.

Neither has to be installed: unpack the two wheels into a folder and run

    python make_scored.py FOLDER

mmsegmentation imports mmcv, so the two static methods of its ``IoUMetric`` are taken out of the
published source as they are.
"""

import ast
import sys
import tempfile
import textwrap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

IMAGES, SIZE = 6, (24, 40)
TRUE_IDS = [0, 3, 7, 8, 11, 13, 19, 21, 23, 26, 33]  # 0 and 3 are not evaluated
PREDICTED_IDS = [2, 7, 8, 11, 12, 13, 21, 23, 26, 33]  # 2 is no class; 12 is nowhere in truth


def published(folder: Path) -> dict:
    """The two methods of mmsegmentation's ``IoUMetric``."""
    source = (folder / "mmseg/evaluation/metrics/iou_metric.py").read_text()
    wanted = ("intersect_and_union", "total_area_to_metrics")
    names = {"torch": torch, "np": np, "OrderedDict": OrderedDict}
    exec("from typing import *", names)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            node.decorator_list = []
            exec(textwrap.dedent(ast.unparse(node)), names)
    return names


def main(folder: Path) -> None:
    """Draw the maps, score them, write the file."""
    sys.path.insert(0, str(folder))
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as theirs
    from cityscapesscripts.helpers.labels import id2label, trainId2label

    rng = np.random.default_rng(24)
    truth = rng.choice(TRUE_IDS, (IMAGES, *SIZE)).astype(np.uint8)
    predicted = np.where(
        rng.random((IMAGES, *SIZE)) < 0.6, truth, rng.choice(PREDICTED_IDS, (IMAGES, *SIZE))
    ).astype(np.uint8)
    predicted[:, 0] = 2
    args = theirs.args
    args.quiet, args.evalInstLevelScore, args.JSONOutput = True, False, False
    with tempfile.TemporaryDirectory() as name:
        pairs = [[], []]
        for k in range(IMAGES):
            for files, maps, what in zip(pairs, (predicted, truth), "pt", strict=True):
                files.append(f"{name}/{what}{k}_labelIds.png")
                Image.fromarray(maps[k]).save(files[-1])
        found = theirs.evaluateImgLists(*pairs, args)
    cityscapes = [found["classScores"][trainId2label[k].name] for k in range(19)]

    table = np.array([id2label[i].trainId for i in range(34)], np.uint8)  # 255: not evaluated
    iou = published(folder)
    areas = [
        iou["intersect_and_union"](
            torch.from_numpy(p.astype(int)), torch.from_numpy(t.astype(int)), 19, 255
        )
        for p, t in zip(table[predicted], table[truth], strict=True)
    ]
    summed = [sum(each) for each in zip(*areas, strict=True)]
    metrics = iou["total_area_to_metrics"](*summed, ["mIoU"])
    np.savez_compressed(
        Path(__file__).with_name("scored.npz"),
        truth_ids=truth,
        predicted_ids=predicted,
        train_ids=table,
        cityscapes_iou=np.array(cityscapes),
        cityscapes_average=found["averageScoreClasses"],
        mmseg_areas=np.stack([a.numpy() for a in summed]),
        mmseg_iou=metrics["IoU"],
        mmseg_acc=metrics["Acc"],
        mmseg_aacc=metrics["aAcc"],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
