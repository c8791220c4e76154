"""Sentences that a report, a card, the command line and the pages share."""

from __future__ import annotations

NO_METRICS = (
    "There are no labelled test texts, so nothing can be said of how right the labels are: label a "
    "random sample of them (10 texts at least, better 100) and train again."
)
NO_REFERENCE = (
    "The run keeps nothing of its training texts, so whether these texts are unlike them is not "
    "known: train again to have it said."
)
