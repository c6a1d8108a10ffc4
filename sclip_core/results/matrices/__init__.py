"""Methods × datasets: the table of a paper, of runs that were scored before.

``build.matrix`` makes it, ``formats`` writes it for Markdown, LaTeX, CSV and Typst.
"""
