"""A file of any size explained by a finished run's model: which source decided what.

Goes over it chunk by chunk, in order, in memory that does not grow. What is made of a chunk is the
caller's; LLM answers are in the cache, so that nothing is paid twice if it is stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from labelfusion.data import RowsFile, open_rows
from labelfusion.llm import scoring_session
from labelfusion.predict_file import LabelledRows, Labeller, Wishes, check_scores, run_examples
from labelfusion.runs import Run
from labelfusion.scale.stream import CHUNK_ROWS, ahead
from labelfusion.types import Event, OnEvent, ignore_event
from labelfusion.workspace import Workspace


def explained_chunks(
    run: Run,
    source: str | Path,
    wishes: Wishes,
    workspace: Workspace,
    *,
    chunk_rows: int = CHUNK_ROWS,
    on_event: OnEvent = ignore_event,
) -> Iterator[LabelledRows]:
    """The rows of `source`, labelled, at most `chunk_rows` at a time.

    The next chunk is encoded while LLMs answer about this one. Money is booked under the run's id.
    Raises LabelFusionError for input that cannot be used, before anything is paid for.
    """
    rows, classifier = open_rows(source, run.config.data), run.model(workspace.cache)
    chunks = (part for _, part in rows.chunks(chunk_rows))
    check_scores(run.config, wishes.scores, classifier.space, chunks)
    tell = on_event if len(rows) <= chunk_rows else _notes(on_event)
    with scoring_session(run.config, workspace, run.id) as context:
        lent = replace(context, training=run_examples(run))
        labeller = Labeller(classifier, run.config, wishes, lent)
        known = (labeller.encode(table, part, tell) for table, part in rows.chunks(chunk_rows))
        done = 0
        for each in ahead(known):
            labelled = labeller.ask(each, tell)
            done += len(labelled.rows)
            on_event(_progress(done, rows))
            yield labelled


def _progress(done: int, rows: RowsFile) -> Event:
    return Event("fusion", "progress", "Explained", done, len(rows), "rows")


def _notes(on_event: OnEvent) -> OnEvent:
    """Of many chunks, what is told of each is of no use, but for notes."""
    return lambda event: on_event(event) if event.status == "note" else None
