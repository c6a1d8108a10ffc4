"""The runs of `make torture`, which disturb the command and count what goes wrong."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before torch and numpy read them
    os.environ.setdefault(_variable, "1")
