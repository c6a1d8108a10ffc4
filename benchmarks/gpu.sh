#!/usr/bin/env bash
# Everything that needs a GPU, within ten minutes: the CUDA tests, then the tables of goals.
#
#   bash benchmarks/gpu.sh [FOLDER] [--quick]
#
# PYTHON: an interpreter with PyTorch for CUDA, open_clip_torch, pydantic, opencv-python-headless and,
# for the masks, segment-anything. Prefect, Zarr and PyArrow are not needed. What has been measured
# when the time is over is in FOLDER (artifacts/gpu). --quick tries the script itself, on any
# machine: tiny sizes, and none of the tests that take long without a GPU.
set -u
cd "$(dirname "$0")/.."
out=artifacts/gpu quick=
for word in "$@"; do
  if [ "$word" = --quick ]; then quick=--quick; else out=$word; fi
done
python=${PYTHON:-python3}
whole=${SECONDS_IN_ALL:-590}
within() { # SECONDS COMMAND...: at most so long, and not beyond the end
  local most=$1 left=$((whole - SECONDS))
  shift
  [ "$left" -gt 0 ] || { echo "no time left for: $*"; return 124; }
  timeout -k 5 "$((most < left ? most : left))" "$@"
}
"$python" -c 'import torch' 2>/dev/null || {
  echo "gpu.sh: $python cannot import torch: set PYTHON to an interpreter with PyTorch" >&2
  exit 2
}
mkdir -p "$out"
if [ -z "$quick" ]; then
  "$python" -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' || exit 2
  within 200 "$python" -m pytest -q -p no:cacheprovider -rA tests/test_cuda.py \
    tests/segmentation/test_gpu.py -k "not interpreted" >"$out/tests.log" 2>&1
  tests=$?
  grep -E 'equal|apart|passed|failed|FAILED|ERROR' "$out/tests.log"
else
  tests=0
fi
within 480 "$python" -m benchmarks --only gpu gpu-masks gpu-more --json "$out/gpu.json" $quick
rows=$?
exit $((tests || rows))
