"""Metrics, intervals, comparisons and reliability of a run's test split, and its model card.

Imports numpy and the light parts of scipy alone; knows no file, no fitting and no page.
"""

from labelfusion.evaluation.card import model_card
from labelfusion.evaluation.comparison import compare_systems, mcnemar_exact
from labelfusion.evaluation.intervals import SystemOutput, bootstrap_intervals, bootstrap_metrics
from labelfusion.evaluation.metrics import evaluate, probability_metrics
from labelfusion.evaluation.reliability import describe_reliability, reliability_bins
from labelfusion.evaluation.report import build_report

__all__ = [
    "SystemOutput",
    "bootstrap_intervals",
    "bootstrap_metrics",
    "build_report",
    "compare_systems",
    "describe_reliability",
    "evaluate",
    "mcnemar_exact",
    "model_card",
    "probability_metrics",
    "reliability_bins",
]
