"""An audit: one run under other words. The images pass through the encoder once, for all lists.

Each list is a run as any other, in the store and in the tables of results: over a benchmark the one
that ``sclip run --classes FILE`` makes of the same words. What the lists are is in
``datasets/other_words.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from sclip_core.config import Settings, UserError
from sclip_core.config.places import Place
from sclip_core.datasets.other_words import AuditedList, as_nested, as_text, audited_lists
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.datasets.word_files import words_sha256
from sclip_core.encoder.loading import load_tokenizer
from sclip_core.encoder.words import check_words
from sclip_core.pipeline.pipeline import Finished, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.progress import Reporter
from sclip_core.results.audits import (
    ListOfWords,
    Moved,
    audit_table,
    moved,
    spread_of,
    worst_of,
    write_audit,
)
from sclip_core.store.files import writable_folder, write_whole

FOLDER = "audits"  # below the artifacts: the words of each list
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What an audit asks for beside the run.

    Attributes:
        vocabularies: files of words for the same classes, by the names of their lists.
        draws: lists of one word of each class; None: three where there are synonyms.
        distractors: words of other benchmarks beside the classes.
        seed: of draws and distractors.
    """

    vocabularies: Mapping[str, str | Path]
    draws: int | None = None
    distractors: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Audited:
    """What remains of an audit."""

    table: pa.Table  # a row a list; see ``sclip_core.results.audits``
    path: Place  # its file
    finished: tuple[Finished, ...]  # of each run; lists of the same words share one
    artifacts: Place

    @property
    def rows(self) -> list[Row]:
        """The rows of the table."""
        found: list[Row] = self.table.to_pylist()
        return found

    @property
    def worst(self) -> Row:
        """The list with the lowest mIoU."""
        return worst_of(self.rows)

    @property
    def spread(self) -> float:
        """The highest mIoU minus the lowest, in percentage points."""
        return spread_of(self.rows)

    def moved(self, name: str | None = None) -> list[Moved]:
        """The classes whose IoU differs most from that under the own words come first.

        Args:
            name: of a list; None: the worst one.
        """
        rows = self.rows
        other = next((row for row in rows if row["list"] == name), self.worst)
        return moved(rows[0], other, self.artifacts)


def audit(
    settings: Settings,
    asked: Asked | None = None,
    reporter: Reporter | None = None,
    run_all: Callable[[list[Run]], list[Finished]] = run_pipelines,
) -> Audited:
    """Run one pipeline under several lists of words, and say what the words changed.

    Args:
        settings: of the run under the dataset's own words.
        asked: which lists.
        reporter: who is told about progress; None: nobody.
        run_all: executes the runs.

    Raises:
        UserError: what is wrong with the settings, the lists or the data.
    """
    asked = asked or Asked({})
    _check(settings, asked)
    first = Run(settings, reporter)
    first.check()
    name, own = first.inputs.dataset.name, first.inputs.dataset.vocabulary
    lists = audited_lists(own, name, asked.vocabularies, asked.draws, asked.distractors, asked.seed)
    _check_words(first, lists)
    files = {each.name: None if each.vocabulary == own else _written(each, first) for each in lists}
    runs: dict[Vocabulary, Run] = {own: first}
    for each in lists:
        if each.vocabulary not in runs:
            other = settings.replace(classes=files[each.name])
            runs[each.vocabulary] = Run(other, beside=first, vocabulary=each.vocabulary)
    finished = dict(zip(runs, run_all(list(runs.values())), strict=True))
    described = [
        _described(each, finished[each.vocabulary].run_id or "", files[each.name]) for each in lists
    ]
    table = audit_table(name, described, asked.seed, settings.artifacts)
    path = write_audit(table, settings.artifacts)
    return Audited(table, path, tuple(finished.values()), settings.artifacts)


def _check(settings: Settings, asked: Asked) -> None:
    """Find what no audit can do.

    Raises:
        UserError: no ground truth, other processes, or distractors without dense labels.
    """
    if not settings.scored:
        raise UserError("an audit compares scores, and there is no ground truth: pass --labels DIR")
    if settings.runner != "threads":
        raise UserError(
            f"--runner {settings.runner}: an audit runs in one process, whose pass serves all "
            "lists: leave --runner out"
        )
    if asked.distractors and settings.mode != "dense":
        raise UserError(
            f"--distractors {asked.distractors} and --mode {settings.mode} conflict: distractors "
            "are for dense labels; leave one out"
        )


def _check_words(first: Run, lists: Sequence[AuditedList]) -> None:
    """See that the model can read each list, and tell its classes apart.

    Raises:
        UserError: it cannot; the line begins with the name of the list.
    """
    spec = first.models.spec
    tokenizer = load_tokenizer(spec)
    for each in lists[1:]:
        if each.name == "closed":  # of the same words as ``open``
            continue
        try:
            words = each.vocabulary
            classes = [*words.named_words, *((word, (word,)) for word in words.distractors)]
            lines = check_words(
                tokenizer, classes, [first.settings.template_set], Path(spec.weights)
            )
        except UserError as error:
            raise UserError(f"list {each.name}: {error}") from None
        for line in lines:
            first.reporter.note(f"list {each.name}: {line}")


def _written(each: AuditedList, run: Run) -> Path:
    """The file with the words of a list, which the run's row names; the same for the same words."""
    vocabulary = each.vocabulary
    digest = words_sha256(vocabulary.words, vocabulary.distractors)
    folder = writable_folder(run.settings.local_artifacts / FOLDER)
    path = folder / f"{each.name}-{digest[:12]}.txt"
    write_whole(path, partial(Path.write_text, data=as_text(vocabulary), encoding="utf-8"))
    with suppress(UserError):
        if list(map(list, Vocabulary.from_file(path).words)) == as_nested(vocabulary):
            return path
    path.unlink()
    path, text = path.with_suffix(".json"), json.dumps(as_nested(vocabulary), ensure_ascii=False)
    write_whole(path, partial(Path.write_text, data=text, encoding="utf-8"))
    return path


def _described(each: AuditedList, run_id: str, file: Path | None) -> ListOfWords:
    words = each.vocabulary
    return ListOfWords(
        name=each.name,
        kind=each.kind,
        run_id=run_id,
        words=words.words,
        distractors=words.distractors,
        words_sha256=words_sha256(words.words, words.distractors),
        words_separator=words.separator,
        file=None if file is None else str(file),
    )
