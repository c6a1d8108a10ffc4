"""PAMR and the decision as compiled kernels, behind one interface."""
