"""Studies: many fits on nested subsets and seeds, kept cell by cell, drawn and read.

    study.py            run_study: the folder, the cells, going on after a kill
    cells.py            a cell, and the file of finished cells
    division.py         cells done beside each other, after what they share
    samples.py          nested subsets
    material.py         what cells share: LLM scores once, cross-fits once
    systems.py          systems fitted on a subset and measured
    statistics.py       means, intervals, ranks and tests over seeds
    learning_curve.py … one file for each kind of study
    plots.py, svg.py, pages.py, writing.py    figures, table, summary, README

A new kind is a file with a class like the others, and a line in `study.KINDS`.
"""

from labelfusion.studies.options import Options
from labelfusion.studies.samples import parse_sizes
from labelfusion.studies.study import KINDS, StudyResult, run_study

__all__ = ["KINDS", "Options", "StudyResult", "parse_sizes", "run_study"]
