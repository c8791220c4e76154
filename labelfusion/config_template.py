"""A commented configuration for a data file, from what can be seen in it.

Looks at files and writes text. The guess is for a person to confirm; nothing is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml

from labelfusion.config import DataConfig, LLMConfig, RunConfig
from labelfusion.data import Layout, Table, dataset_from_table, guess_layout, read_table
from labelfusion.errors import InputError
from labelfusion.llm import ScoringContext, score_rows
from labelfusion.score_kinds import detect_kind
from labelfusion.types import Dataset, Rows


def config_template(data: Path, scores: Path | None, folder: Path) -> str:
    """YAML text for a config that lies in `folder`; `RunConfig.load` accepts it.

    Args:
        data: the labelled file.
        scores: recorded LLM scores of its rows, or None.

    Raises InputError: a file cannot be read, no label column is found, or the scores do not fit.
    """
    table, layout = _guess(data)
    return _text(data, table, layout, scores, folder)


def guessed_config(data: Path, scores: Path | None) -> tuple[RunConfig, Sequence[str]]:
    """The config that `config_template` writes, and why its layout was guessed so.

    Raises InputError as it does.
    """
    table, layout = _guess(data)
    text = _text(data, table, layout, scores, Path.cwd())
    return RunConfig.from_dict(yaml.safe_load(text)).anchored(Path.cwd()), layout.reasons


def _guess(data: Path) -> tuple[Table, Layout]:
    table = read_table(data)
    layout = guess_layout(table)
    if not (layout.config.label_column or layout.config.label_columns):
        raise InputError(
            "No label column was found",
            where=str(data),
            expected="a column of labels, or columns of 0 and 1",
            found=" ".join(layout.reasons),
            remedy="Name the column 'label', or write the config by hand",
        )
    return table, layout


def _text(data: Path, table: Table, layout: Layout, scores: Path | None, folder: Path) -> str:
    dataset = dataset_from_table(table, layout.config)
    sections = [
        _head(data),
        _data_section(data, layout.config, layout.reasons, dataset, folder),
        _ML_SECTION,
        _llm_section(scores, layout.config, dataset, folder),
        _FUSION_SECTION,
    ]
    text = "\n".join(sections)
    RunConfig.from_dict(yaml.safe_load(text))
    return text


def _head(data: Path) -> str:
    return (
        "# A LabelFusion run. Start it with: labelfusion train THIS_FILE\n"
        "# Relative paths are taken from this file's folder.\n"
        f"version: 1\n{_line('name', data.stem)}\nseed: 0\n"
    )


def _data_section(
    data: Path, config: DataConfig, reasons: Iterable[str], dataset: Dataset, folder: Path
) -> str:
    settings = {"path": _relative(data, folder)} | config.model_dump(
        mode="json",
        include={
            "text_columns",
            "id_column",
            "label_column",
            "label_delimiter",
            "label_columns",
            "multi_label",
            "split_column",
        },
        exclude_none=True,
    )
    lines = ["data:", *(f"  # {_one_line(reason)}" for reason in reasons)]
    lines += [f"  {_line(key, value)}" for key, value in settings.items()]
    lines.append("  test_size: 0.25  # share of labelled rows held out for the report")
    lines.append("  # What each label means, one line each; an LLM is told this.")
    lines.append("  # labels:")
    counts = dataset.targets.sum(axis=0)
    lines += [
        f"  #   {_flow(name)}: …  # {count} rows"
        for name, count in zip(dataset.space.names, counts, strict=True)
    ]
    return "\n".join(lines) + "\n"


_ML_SECTION = """\
ml:
  encoder: minilm  # minilm (on disk, no download) | tfidf | none | a folder or hub id
  folds: 5         # out-of-fold scores, so that the fusion never sees memorised texts
  # fine_tune: true  # train the transformer too, not only its head: slow without a GPU
  # lora: {rank: 8, alpha: 16}  # small adapters in place of all its weights (needs peft)
  # training: {processes: auto}  # fine-tune on every GPU (needs accelerate)
  # joint: true      # and together with the LLM scores: one more source, "joint"
"""

_NO_LLM = """\
# Add LLM scores made elsewhere, or ask a provider (its key is read from the environment):
# llm:
#   - provider: recorded
#     path: scores.csv       # an id column, and a column for each label
#     kind: probabilities    # probabilities | logits | hard
#   - provider: openai       # openai | deepseek | anthropic | gemini | compatible | local
#     model: MODEL
"""

_FUSION_SECTION = """\
fusion:
  method: auto       # guarded choice | log_pool | matrix_pool | the name of a source
  calibration: auto
# Which texts the LLM is asked about once the run is trained:
# routing:
#   policy: margin           # always | never | margin | budget
#   max_accuracy_loss: 0.003 # against full fusion; certified: true promises it
# costs:
#   budget:
#     run_usd: 5     # never exceeded
"""


def _llm_section(scores: Path | None, config: DataConfig, dataset: Dataset, folder: Path) -> str:
    if scores is None:
        return _NO_LLM
    # As logits any finite number passes; what they are is then detected.
    entry = LLMConfig(provider="recorded", path=str(scores), kind="logits")
    context = ScoringContext(
        id_columns=(config.id_column or "id",), text_columns=tuple(config.text_columns)
    )
    rows = Rows(dataset.ids.tolist(), dataset.texts)
    signal = score_rows(entry, rows, dataset.space, context=context)
    kind, reason = detect_kind(np.asarray(signal.scores), dataset.space.multi_label)
    found = f"{int(signal.present.sum())} of {len(signal)} rows have scores"
    return (
        f"llm:\n  # {found}.\n  - provider: recorded\n"
        f"    {_line('path', _relative(scores, folder))}\n"
        f"    kind: {kind}  # {reason}\n"
    )


def _relative(path: Path, folder: Path) -> str:
    """`path` from `folder` where it lies below it or beside it, else absolute."""
    path, folder = path.resolve(), folder.resolve()
    if path.is_relative_to(folder.parent):
        return Path(os.path.relpath(path, folder)).as_posix()
    return str(path)


def _line(key: str, value: object) -> str:
    """`key: value` as one line of YAML, quoted where it needs to be."""
    return f"{_flow(key)}: {_flow(value)}"


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("...\n").strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
