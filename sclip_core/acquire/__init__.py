"""The benchmarks' data, from nothing to checked: sources, download, conversion, checks."""
