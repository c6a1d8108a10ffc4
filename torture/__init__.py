"""What `make torture` does to the store, and whether anything was lost, wrong or unclear then."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before torch and numpy read them
    os.environ.setdefault(_variable, "1")
