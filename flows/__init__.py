"""How runs are started: the Prefect flow and the sclip command."""

import os

# After a product PyTorch's threads spin until the next one, by default for milliseconds, and take
# the processor from threads that decode, store and refine. Before torch is imported; the encoder is
# as fast, and labels are there a quarter sooner (docs/performance.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
