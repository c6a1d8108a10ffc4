"""Tests of the benchmarks: the baseline is right, and every row can be measured."""
