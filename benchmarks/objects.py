"""Rows in a bucket against rows in a folder, and how many requests a run makes.

python -m benchmarks.objects [--rows N] [--scenes N]

The bucket is moto's server on this machine: its times are Python's, so of a real one only the
numbers of requests can be told from it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sclip_core.config import resolve
from sclip_core.config.places import ObjectPath, Place
from sclip_core.store.arrays import NewRow
from sclip_core.store.artifact import Identity
from sclip_core.store.objects.blocks import BLOCKS
from sclip_core.store.objects.bucket import bucket_of
from sclip_core.store.tables import array_table, artifact_of
from tests.torture.cases.bucket import BUCKET, server
from tests.torture.proxy import Proxy

BATCHES = 4
SHAPE = (2000, 64)  # of a row: a quarter of a megabyte in fp16


def rows_in(root: Place, count: int) -> tuple[float, float]:
    """Seconds to commit and to read rows."""
    artifact = artifact_of(root, Identity("refine", 1, {}, {}))
    artifact.create({})
    table = array_table(artifact, "float16", SHAPE[1], compress=False)
    values = np.random.default_rng(0).random(SHAPE).astype("float16")
    rows = [NewRow(f"{number}", values) for number in range(count)]
    started = time.perf_counter()
    with table.writer() as writer:
        for first in range(BATCHES):
            writer.commit(rows[first::BATCHES], 1.0)
    committed = time.perf_counter()
    for row in list(artifact.rows().values()):
        assert table.read(row).shape == SHAPE
    return committed - started, time.perf_counter() - committed


def requests_of_a_run(address: str, data: Path, scenes: int) -> dict[str, int]:
    """Requests of a run in this process, by their kind."""
    from sclip_core.pipeline.pipeline import run_pipelines
    from sclip_core.pipeline.run import Run
    from sclip_core.store.objects.ledger import ledger_of

    given: dict[str, Any] = {"preset": "demo", "dataset": "scenes", "data_root": data}
    with Proxy(address) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.url
        for cached in (bucket_of, ledger_of):
            cached.cache_clear()
        BLOCKS.clear()
        place = ObjectPath(f"s3://{BUCKET}/run")
        run_pipelines([Run(resolve(**given, artifacts=place, num_samples=scenes))])
        return dict(proxy.counts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--scenes", type=int, default=200)
    options = parser.parse_args()
    from sclip_core.demo.scenes.files import write_scenes

    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "any")
    with TemporaryDirectory() as folder, server() as address:
        os.environ.update(keys, AWS_ENDPOINT_URL=address, AWS_REGION="us-east-1")
        on_disk = rows_in(Path(folder) / "artifacts", options.rows)
        in_bucket = rows_in(ObjectPath(f"s3://{BUCKET}/rows"), options.rows)
        for what, disk, objects in zip(("commit", "read"), on_disk, in_bucket, strict=True):
            print(
                f"{what} {options.rows} rows: folder {disk:.2f} s, bucket {objects:.2f} s, "
                f"{objects / disk:.1f} times"
            )
        if options.scenes:
            write_scenes(Path(folder) / "scenes", options.scenes)
        for what in ("first", "again") if options.scenes else ():
            counts = requests_of_a_run(address, Path(folder) / "scenes", options.scenes)
            print(
                f"run of {options.scenes} scenes, {what}: {sum(counts.values())} requests {counts}"
            )


if __name__ == "__main__":
    main()
