"""Tests of the page on runs and images."""
