"""The commands of ``sclip``: where each is, and its help; one that runs is imported alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts import App, Parameter

from sclip_core import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

READ_ONLY = (
    "plan",
    "results",
    "compare",
    "table",
    "query",
    "cite",
    "profile",
)  # they change nothing
# In the order of `sclip --help`: the module of each, and the docstring of its function, which need
# not be imported for `sclip --help` thereby.
COMMANDS = {
    "run": (
        "runs",
        "Segment a dataset, score it if there is ground truth, keep every stage's artifact.",
    ),
    "plan": ("runs", "Say what a run would compute, and why; compute nothing."),
    "sweep": (
        "sweep",
        "Score a grid of settings of the cheap stages: a line a point, a plot, the best of them."
        "\n\nNo image passes through CLIP or SAM twice: each point is refined, filled and scored "
        "alone.",
    ),
    "tune": (
        "tune",
        "Choose settings on one part of the images, and report them on the other.\n\n"
        "All points are scored on all images, which pass through the encoder once; then the "
        "winner of\nthe tuning part is compared on the rest with the protocol's own settings, and "
        "with what\nchoosing on the test would have reported.",
    ),
    "audit": (
        "audit",
        "Score one run under other words: own, plain, drawn synonyms, all, yours, distractors.",
    ),
    "segment": ("segment", "Segment photographs, or a folder of them, with your own words."),
    "score": ("score", "Score label maps that another tool made, into the same tables as runs."),
    "demo": ("demo", "Drawn scenes, a toy CLIP that knows them, eleven methods side by side."),
    "results": (
        "results",
        "List the runs, newest first; the settings in which they differ have columns.",
    ),
    "compare": (
        "results",
        "Tell whether runs differ: paired bootstrap over their images, 95 % intervals.",
    ),
    "table": (
        "paper_table",
        "Write methods × datasets for a paper: best bold, second underlined, what differs marked.",
    ),
    "report": (
        "results",
        "Write one page about runs: scores, classes, confusions, pictures, time, settings.",
    ),
    "query": ("results", "Query the results in SQL (DuckDB)."),
    "explore": (
        "explore",
        "Type words and see where they are: a page on stored runs, or on a folder of images.\n\n"
        "It prints the address of the page, and ends on Ctrl-C.",
    ),
    "panels": (
        "panels",
        "Draw a figure for a paper: image, ground truth and runs side by side, a row an image.",
    ),
    "export": ("export", "Write the label maps of a run for other tools."),
    "freeze": (
        "freeze",
        "Write down all that decided a run's result: settings, words, digests, keys, versions.\n\n"
        "`sclip run --config FILE` runs it again, anywhere, and says whether it is the same.",
    ),
    "cite": ("cite", "Print BibTeX of the methods, networks and data that runs used."),
    "profile": (
        "profile",
        "Measure images/s, latency, memory, parameters and FLOPs by method; store nothing.\n\n"
        "`--pretrained none` takes random weights. `--num-samples N` images are measured.",
    ),
    "gc": (
        "gc",
        "Show what nothing refers to, or verify the store; nothing is removed without --delete.",
    ),
}
DATA = "The benchmarks' data: list, download, prepare, check."  # a group of commands


def only_local(kind: object, value: object) -> None:
    """See that no path of a command is a URL: cyclopts calls it with every value.

    Raises:
        UserError: one is.
    """
    from flows.cli.options import refuse_urls

    refuse_urls(value)


app = App(
    name="sclip",
    version=__version__,
    default_parameter=Parameter(validator=only_local),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main handles it
    help="Training-free open-vocabulary segmentation with CLIP, benchmarked.",
)
for name, (module, told) in COMMANDS.items():
    app.command(f"flows.cli.{module}:{name}", name=name, help=told)
app.command("flows.cli.data:app", name="data", help=DATA)


def __getattr__(name: str) -> Callable[..., Any]:
    """The function of ``sclip run`` or ``sclip plan``, imported on first use."""
    if name not in ("run", "plan"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.cli import runs

    function: Callable[..., Any] = getattr(runs, name)
    return function
