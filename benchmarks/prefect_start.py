"""What Prefect costs a command: ``sclip run`` with it against ``--direct``, over finished stages.

``python -m benchmarks.prefect_start`` needs no weights and no data; it draws eight scenes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMES = 5
SCENES = ["--preset", "demo", "--dataset", "scenes", "--num-samples", "8"]


def seconds(*words: str) -> float:
    """How long a command takes, from its start to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "flows.cli", *words], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the medians of alternating runs, and what the first one costs more."""
    from sclip_core.demo.scenes.files import write_scenes

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "scenes"
        write_scenes(root, 8)
        words = ["run", *SCENES, "--data-root", str(root), "--artifacts", f"{folder}/artifacts"]
        seconds(*words, "--direct")  # computes; all others find everything there
        first = seconds(*words)
        ways: dict[str, list[float]] = {"--direct": [], "with Prefect": []}
        for _ in range(TIMES):
            ways["--direct"].append(seconds(*words, "--direct"))
            ways["with Prefect"].append(seconds(*words))
    middle = {way: statistics.median(times) for way, times in ways.items()}
    for way, value in middle.items():
        print(f"{way:<14} {value:5.1f} s")
    extra = middle["with Prefect"] - middle["--direct"]
    at_first = first - middle["--direct"]
    print(f"Prefect adds   {extra:5.1f} s, the first time in a folder {at_first:.1f} s")


if __name__ == "__main__":
    main()
