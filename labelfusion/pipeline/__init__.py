"""The whole story of a run, from its data to what is known of its labels.

    run.py       the order of the steps; `fit`
    checks.py    what is checked before anything is trained or paid; `check`
    rows.py      which rows a run uses for what
    signals.py   every source's signal; `make_signals`
    meanwhile.py work that goes on in a thread beside other work
    report.py    what metrics.json says

Knows no disk layout and no page: it tells `on_event` what happens, and takes from `store` what an
interrupted run already has.
"""

from __future__ import annotations

from labelfusion.pipeline.checks import check, check_sources
from labelfusion.pipeline.rows import rows_at, scored_rows, training_texts
from labelfusion.pipeline.run import FittedRun, fit, fit_fusion, reference_of
from labelfusion.pipeline.signals import SignalStore, make_signals

__all__ = [
    "FittedRun",
    "SignalStore",
    "check",
    "check_sources",
    "fit",
    "fit_fusion",
    "make_signals",
    "reference_of",
    "rows_at",
    "scored_rows",
    "training_texts",
]
