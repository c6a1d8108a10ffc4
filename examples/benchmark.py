"""Run a small benchmark from Python, and ask the results.

python examples/benchmark.py [ARTIFACTS]

Two policies with and without PAMR on three drawn scenes, by the toy CLIP of the package: four runs
that share what they can. Run it twice: the second time everything is cached.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flows.cli import main as sclip
from sclip_core import results

SCENES = Path(__file__).parent / "scenes"


def main(artifacts: str = "artifacts/example") -> None:
    """Run, then print the runs from the worst to the best, and the hardest classes."""
    options = {
        "--preset": "demo",
        "--dataset": "scenes",
        "--data-root": str(SCENES),
        "--attention": "csa,vanilla",
        "--pamr-steps": "0,10",
        "--artifacts": artifacts,
    }
    if sclip(["run", "--direct", *(word for option in options.items() for word in option)]):
        sys.exit("the run failed")

    for run in results.runs(artifacts).sort_by("miou").to_pylist():
        print(f"{run['attention']:<8} PAMR {run['pamr_steps']:>2}   mIoU {run['miou']:.2f}")
    hardest = """
        select class_name, round(max(iou), 1) as best from class_iou
        where "label" > 0 group by 1 order by 2 limit 3
    """
    for row in results.query(hardest, artifacts).to_pylist():
        print(f"{row['class_name']:<12} at best {row['best']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
