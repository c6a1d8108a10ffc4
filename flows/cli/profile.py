"""``sclip profile``: what runs cost on this machine, as the efficiency table of a paper has it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.options import Config, Pamr, Preset, Slide, UseSam, settings_of
from flows.parameters import flag, with_settings
from sclip_core.config import UserError
from sclip_core.config.settings import preset_values

if TYPE_CHECKING:
    from sclip_core.profiling import Profile

Rows = list[list[str]]
EMBEDDED = "sclip-demo"  # which was trained on the words of the drawn scenes


@with_settings(flag)
def profile(
    *,
    size: Annotated[
        str, Parameter(help="Of made-up images, HEIGHTxWIDTH, where no data is given.")
    ] = "336x448",
    repeats: Annotated[
        int, Parameter(help="Times that each image is measured.", validator=Number(gte=1))
    ] = 3,
    format: Annotated[
        Literal["table", "markdown", "latex", "csv"], Parameter(help="Output format.")
    ] = "table",
    json_: Annotated[bool, Parameter(name="--json", help="As JSON.", negative=())] = False,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    **given: Any,
) -> int:
    """Measure images/s, latency, memory, parameters and FLOPs by method; store nothing.

    `--pretrained none` takes random weights. `--num-samples N` images are measured.
    """
    from sclip_core.profiling import profile as measured

    shape = _size(size)
    of_preset = preset_values(preset) if preset else {}
    named = {**of_preset, **{name: v for name, v in given.items() if v is not None}}
    if config is None and not {"dataset", "images"} & set(named):
        given = {**given, "dataset": "scenes" if named.get("model") == EMBEDDED else "voc21"}
    found = measured(settings_of(preset, config, pamr, slide, use_sam, given), shape, repeats)
    if json_:
        print(json.dumps(_plain(found), indent=2, ensure_ascii=False))
    elif format == "table":
        _print(found)
    else:
        print("\n".join(_text(found, format)))
    return 0


def _size(text: str) -> tuple[int, int]:
    """Height and width.

    Raises:
        UserError: it is not a size.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,4})[x×,]([1-9][0-9]{0,4})", text.strip())
    if match is None:
        raise UserError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 336x448")
    return int(match[1]), int(match[2])


def _methods(found: Profile) -> tuple[list[str], Rows]:
    """Heads and rows of the table of methods; times in ms, memory in MB."""
    names = [n for n in ("masks", "encode", "refine", "pamr") if any(
        n in one.stages for one in found.methods
    )]  # fmt: skip
    heads = ["method", "windows", "GFLOPs", *(f"{name} ms" for name in names)]
    heads += ["median ms", "p95 ms", "images/s", *(f"{name} MB" for name in names)]
    rows = []
    for one in found.methods:
        times = [f"{1e3 * one.stages[n].median:.1f}" if n in one.stages else "-" for n in names]
        total = one.stages["total"]
        memory = [one.stages[n].memory if n in one.stages else None for n in names]
        rows.append(
            [
                one.name,
                str(one.windows),
                f"{one.flops / 1e9:.2f}",
                *times,
                f"{1e3 * total.median:.1f}",
                f"{1e3 * total.p95:.1f}",
                f"{one.images_per_second:.2f}",
                *("-" if mb is None else f"{mb:.0f}" for mb in memory),
            ]
        )
    return heads, rows


def _networks(found: Profile) -> tuple[list[str], Rows]:
    """Heads and rows of the table of networks."""
    heads = ["network", "input", "parameters M", "GFLOPs"]
    rows = [
        [one.name, one.size, f"{one.parameters / 1e6:.2f}", f"{one.flops / 1e9:.3f}"]
        for one in found.networks
    ]
    return heads, rows


def _lines(found: Profile) -> list[str]:
    """What the tables are of."""
    return [
        f"{found.images} images of {found.size}; {found.machine}",
        f"text: {found.words} words in {found.text_seconds:.2f} s, once for a vocabulary",
        "GFLOPs: a multiply-add is 2; matrix products, convolutions and attention of networks and "
        "method; no Numba",
    ]


def _print(found: Profile) -> None:
    from rich.table import Table

    from flows.cli.console import console

    tables = []
    for heads, rows in (_methods(found), _networks(found)):
        table = Table()
        for number, head in enumerate(heads):
            table.add_column(head, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    for part in [tables[0], tables[1], *_lines(found)]:
        console(part if isinstance(part, Table) else None).print(part, soft_wrap=True)


def _text(found: Profile, format: str) -> list[str]:
    """Both tables as text, and what they are of as comments."""
    lines = []
    for heads, rows in (_methods(found), _networks(found)):
        lines += [*WRITERS[format](heads, rows), ""]
    mark = {"markdown": "", "latex": "% ", "csv": "# "}[format]
    return [*lines, *(f"{mark}{line}" for line in _lines(found))]


def _markdown(heads: list[str], rows: Rows) -> list[str]:
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(row)} |" for row in [heads, marks, *rows]]


def _latex(heads: list[str], rows: Rows) -> list[str]:
    body = [" & ".join(row).replace("×", r"$\times$") + r" \\" for row in [heads, *rows]]
    head = rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}"
    return [head, r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]


def _csv(heads: list[str], rows: Rows) -> list[str]:
    return [",".join(row) for row in [heads, *rows]]


WRITERS = {"markdown": _markdown, "latex": _latex, "csv": _csv}


def _plain(found: Profile) -> dict[str, Any]:
    """All that was measured; seconds and MB."""
    from dataclasses import asdict

    plain = asdict(found)
    for row, one in zip(plain["methods"], found.methods, strict=True):
        row["images_per_second"] = one.images_per_second
        for name, stage in row["stages"].items():
            stage |= {"median": one.stages[name].median, "p95": one.stages[name].p95}
    return plain
