#!/usr/bin/env bash
# Everything that needs a GPU, within ten minutes: the CUDA tests, then the table of goals.
#
#   bash benchmarks/gpu.sh [FOLDER]
#
# PYTHON: an interpreter with PyTorch for CUDA, open_clip_torch, pydantic, opencv-python-headless and,
# for the masks, segment-anything. Prefect, Zarr and PyArrow are not needed.
set -u
cd "$(dirname "$0")/.."
out=${1:-artifacts/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
"$python" -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' || exit 2
timeout 200 "$python" -m pytest -q -p no:cacheprovider -rA tests/test_cuda.py \
  tests/segmentation/test_gpu.py -k "not interpreted" >"$out/tests.log" 2>&1
tests=$?
grep -E 'equal|apart|passed|failed|FAILED|ERROR' "$out/tests.log"
timeout 240 "$python" -m benchmarks --only gpu gpu-masks --json "$out/gpu.json"
rows=$?
exit $((tests || rows))
