"""The commands of ``sclip``. What needs no flow imports no Prefect."""

from __future__ import annotations

from cyclopts import App, Parameter

from flows.cli.audit import audit
from flows.cli.cite import cite
from flows.cli.data import app as data
from flows.cli.demo import demo
from flows.cli.explore import explore
from flows.cli.export import export
from flows.cli.freeze import freeze
from flows.cli.gc import gc
from flows.cli.options import only_local
from flows.cli.panels import panels
from flows.cli.paper_table import table
from flows.cli.profile import profile
from flows.cli.results import compare, query, report, results
from flows.cli.runs import plan, run
from flows.cli.score import score
from flows.cli.segment import segment
from flows.cli.sweep import sweep
from flows.cli.tune import tune
from sclip_core import __version__

app = App(
    name="sclip",
    version=__version__,
    default_parameter=Parameter(validator=only_local),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main handles it
    help="Training-free open-vocabulary segmentation with CLIP, benchmarked.",
)
READ_ONLY = (
    "plan",
    "results",
    "compare",
    "table",
    "query",
    "cite",
    "profile",
)  # they change nothing

# in the order of `sclip --help`
for command in (
    *(run, plan, sweep, tune, audit, segment, score, demo, results, compare, table, report, query),
    *(explore, panels, export, freeze, cite, profile, gc, data),
):
    app.command(command)
