"""What was measured, as Arrow tables: a function for each table, for SQL and for comparisons.

Where all runs are read, files that cannot be read are left out with a ``ResultsWarning``.

>>> from sclip_core import results
>>> results.runs("no/such/folder").num_rows
0
"""

from sclip_core.results.audits import audits
from sclip_core.results.comparison import compare
from sclip_core.results.files import ResultsWarning
from sclip_core.results.matrices.build import matrix
from sclip_core.results.measured import scores
from sclip_core.results.published import published
from sclip_core.results.sql import query
from sclip_core.results.tables import (
    Paired,
    class_iou,
    confusion,
    find_run,
    image_areas,
    paired,
    runs,
)
from sclip_core.results.tuning import Tuned, tuned, tunings

__all__ = [
    "Paired",
    "ResultsWarning",
    "Tuned",
    "audits",
    "class_iou",
    "compare",
    "confusion",
    "find_run",
    "image_areas",
    "matrix",
    "paired",
    "published",
    "query",
    "runs",
    "scores",
    "tuned",
    "tunings",
]
