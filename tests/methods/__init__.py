"""Tests of the methods, against what the public code of each computed."""
