"""AutoFusionClassifier: the engine in scikit-learn's style.

Knows scikit-learn's conventions and turns them into Datasets and RunConfigs. Trains on every
labelled row it is given: whoever calls `fit` keeps the test rows. Runs with a held-out test split,
a report and a folder are made by `labelfusion train`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from labelfusion.classifier import FusedClassifier, score_llm, score_sent
from labelfusion.config import RunConfig
from labelfusion.config_reading import FLAT_KEYS, FLAT_LLM_KEYS
from labelfusion.data import (
    cell_text,
    dataset_from_arrays,
    dataset_from_table,
    rows_from_table,
    table_from_frame,
)
from labelfusion.errors import ConfigError, InputError, RunError, did_you_mean
from labelfusion.explain import explanation_table
from labelfusion.fusion.routing import fit_routing
from labelfusion.llm import scoring_session
from labelfusion.llm.providers import with_models
from labelfusion.pipeline import (
    check_sources,
    fit_fusion,
    make_signals,
    reference_of,
    training_texts,
)
from labelfusion.types import (
    Dataset,
    LabelSpace,
    Prediction,
    Rows,
    Signal,
    Split,
    ignore_event,
)
from labelfusion.workspace import Workspace

STATE_FILE = "classifier.json"
FORMAT = 1
SETTINGS = (*FLAT_KEYS, *FLAT_LLM_KEYS, *RunConfig.model_fields)


class AutoFusionClassifier(ClassifierMixin, BaseEstimator):
    """Fuse an encoder and LLM scores into one classifier of texts.

    Args:
        config: a RunConfig, a nested or flat dict (``{"llm_provider": "deepseek",
            "label_columns": ["positive", "negative", "neutral"]}``), or a YAML file's path.
        **settings: single settings over it, flat (``encoder="tfidf"``) or nested with two
            underscores (``fusion__method="log_pool"``).

    Attributes:
        classes_: (k,) the labels; for multi-label the names of the indicator columns.
        choice_: which combiner was chosen and why (`labelfusion.fusion.choice.Choice`).
        classifier_: the fitted `FusedClassifier`.
        config_: the RunConfig that was used.
    """

    def __init__(
        self,
        config: RunConfig | Mapping[str, Any] | str | Path | None = None,
        **settings: Any,
    ) -> None:
        self.config = config
        self.settings: dict[str, Any] = {}
        self.set_params(**settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """`config` and the settings given by name."""
        return {"config": self.config, **self.settings}

    def set_params(self, **params: Any) -> AutoFusionClassifier:
        """Change settings. Raises ConfigError for one that does not exist."""
        for key, value in params.items():
            if key == "config":
                self.config = value
            elif key.split("__")[0] in SETTINGS:
                self.settings[key] = value
            else:
                raise ConfigError(
                    f"Unknown setting {key!r}", remedy=did_you_mean(key, list(SETTINGS))
                )
        return self

    def fit(self, X: Any, y: Any = None) -> AutoFusionClassifier:
        """Train on all labelled rows.

        Args:
            X: a DataFrame with the text and label columns the config names (y None), or texts.
            y: (n,) labels, n lists of labels, or (n, k) 0/1 indicators. Integer labels below the
                number of `data.labels` (label descriptions) are positions in it.

        Raises LabelFusionError for input that cannot be used; nothing is trained before all of it
        has been checked.
        """
        config = with_models(self._run_config())
        dataset, self.classes_ = _dataset(X, y, config)
        train = np.flatnonzero(dataset.labelled)
        split = Split(train=train, test=np.zeros(0, dtype=int))
        check_sources(dataset, split, config)
        with scoring_session(config, Workspace.at(), _session_name()) as context:
            encoder, _, signals = make_signals(
                dataset, split, config, ignore_event, {}, None, context
            )
        fusion = fit_fusion(dataset, train, signals, config, ignore_event)
        policy = fit_routing(fusion, dataset.targets[train], config).policy
        unseen = [(signals, fusion.out_of_fold)] if fusion.out_of_fold else []
        unseen = [({n: s.take(train) for n, s in part.items()}, p) for part, p in unseen]
        reference = reference_of(dataset, train, encoder, fusion, unseen, config.seed)
        self.classifier_ = FusedClassifier(dataset.space, encoder, fusion, policy, reference)
        self.config_, self.choice_ = config, fusion.choice
        self.training_texts_ = training_texts(dataset, split)
        self.out_of_fold_ = fusion.out_of_fold
        self.multi_label_ = dataset.space.multi_label
        return self

    def predict(self, X: Any, *, llm_scores: Mapping[str, Any] | None = None) -> np.ndarray:
        """(n,) labels, or (n, k) 0/1 indicators for multi-label. See `explain` for arguments."""
        decisions = self._predict(X, llm_scores).decisions
        return decisions.astype(int) if self.multi_label_ else self.classes_[decisions.argmax(1)]

    def predict_proba(self, X: Any, *, llm_scores: Mapping[str, Any] | None = None) -> np.ndarray:
        """(n, k) fused probabilities, columns as `classes_`. See `explain` for arguments."""
        return self._predict(X, llm_scores).probabilities

    def explain(self, X: Any, *, llm_scores: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One row a text and label: what was decided, and how much of it each source decided.

        Args:
            X: texts, or a DataFrame with the config's text columns (and its id column).
            llm_scores: by LLM source, a Signal or (n, k) probabilities with NaN rows where there
                is none. Without it the configured providers are asked, about the texts that the
                routing policy sends; recorded scores are looked up by id or text, and texts without
                one are predicted without that source.

        Returns:
            Columns text (position), label, probability, decided, prior (log-odds), for each source
            `<source>_contribution` (log-odds) and `<source>_present`, and fused: the prior plus the
            contributions.
        """
        prediction = self._predict(X, llm_scores, contributions=True)
        prior = self.classifier_.fusion.prior_log_odds()
        return explanation_table(prediction, prior, self.classes_)

    def save(self, folder: str | Path) -> Path:
        """Write the fitted model as JSON and safetensors (no pickle). Returns the folder."""
        check_is_fitted(self, "classifier_")
        folder = Path(folder)
        self.classifier_.save(folder)
        values = {
            "format": FORMAT,
            "config": self.config_.to_dict(),
            "classes": self.classes_.tolist(),
        }
        (folder / STATE_FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> AutoFusionClassifier:
        """Inverse of `save`. Raises RunError for a folder that is damaged or newer."""
        folder = Path(folder)
        try:
            values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                "There is no saved classifier here",
                where=str(folder),
                found=str(error),
                remedy="Give a folder that AutoFusionClassifier.save wrote",
            ) from None
        loaded = cls(values["config"])
        loaded.config_ = RunConfig.from_dict(values["config"])
        loaded.classifier_ = FusedClassifier.load(folder)
        loaded.choice_ = loaded.classifier_.fusion.choice
        loaded.out_of_fold_ = None
        loaded.training_texts_ = None
        loaded.classes_ = np.array(values["classes"])
        loaded.multi_label_ = loaded.classifier_.space.multi_label
        return loaded

    def _run_config(self) -> RunConfig:
        config = self.config
        if isinstance(config, str | Path):
            config = RunConfig.load(config)
        values = config.to_dict() if isinstance(config, RunConfig) else dict(config or {})
        nested = {key: value for key, value in self.settings.items() if "__" in key}
        flat = {key: value for key, value in self.settings.items() if "__" not in key}
        made = RunConfig.from_dict(values | flat)
        dotted = {key.replace("__", "."): value for key, value in nested.items()}
        return made.updated(dotted) if dotted else made

    def _predict(
        self, X: Any, llm_scores: Mapping[str, Any] | None, *, contributions: bool = False
    ) -> Prediction:
        check_is_fitted(self, "classifier_")
        rows = _rows(X, self.config_)
        model, space = self.classifier_, self.classifier_.space
        if llm_scores is not None:
            given = {name: _signal(name, scores) for name, scores in llm_scores.items()}
            return model.predict(rows, given, contributions=contributions)
        signals = model.encode(rows)
        signals |= self._ask(model.route(rows, signals), rows, space)
        return model.predict(rows, signals, contributions=contributions)

    def _ask(self, sent: np.ndarray, rows: Rows, space: LabelSpace) -> dict[str, Signal]:
        """Scores of the LLM sources for the rows that are sent to them."""
        found = {}
        with scoring_session(self.config_, Workspace.at(), _session_name()) as context:
            lent = {
                "space": space,
                "config": self.config_,
                "context": replace(context, training=self.training_texts_),
                "must_match": False,
            }
            for entry in self.config_.llm:
                ask = partial(score_llm, entry, **lent)
                found[entry.name] = score_sent(sent, rows, space, ask, entry.name)
        return found


def _session_name() -> str:
    """What the ledger calls a call of this class: budgets are counted by it."""
    return f"python-{secrets.token_hex(4)}"


def _dataset(X: Any, y: Any, config: RunConfig) -> tuple[Dataset, np.ndarray]:
    """The Dataset and the caller's own label values, in the order of its LabelSpace."""
    if y is None and not (config.data.labels and not isinstance(X, pd.DataFrame)):
        if not isinstance(X, pd.DataFrame):
            raise InputError(
                "There are no labels",
                expected="fit(DataFrame) with label columns, fit(texts, y), or fit(texts) with the "
                "labels named in data.labels",
                found=f"fit({type(X).__name__})",
            )
        dataset = dataset_from_table(table_from_frame(X), config.data)
        return dataset, np.array(dataset.space.names)
    classes = None
    if isinstance(y, pd.Series) or (y is not None and np.ndim(y) == 1 and not _is_listed(y)):
        y, classes = _indicators(np.asarray(y), list(config.data.labels))
    rows = _rows(X, config)
    dataset = dataset_from_arrays(rows.texts, y, config=config.data)
    dataset = replace(dataset, ids=np.array(rows.ids, dtype=np.str_))
    return dataset, np.array(dataset.space.names) if classes is None else classes


def _is_listed(y: Any) -> bool:
    """Whether each item is a list of labels."""
    return any(isinstance(item, list | tuple | set | frozenset) for item in y)


def _indicators(labels: np.ndarray, names: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """0/1 columns and classes in scikit-learn's order (np.unique); unlabelled rows are empty.

    Integers below the number of `names` are positions in it, as LabelEncoder and
    VotingClassifier make them: the columns then carry the names that prompts and scores use.
    """
    missing = np.array([value is None or value == "" or value != value for value in labels])
    present = labels[~missing]
    coded = bool(names) and np.issubdtype(labels.dtype, np.integer) and len(present) > 0
    if coded and present.min() >= 0 and present.max() < len(names):
        classes, columns = np.arange(len(names)), names
    else:
        classes = np.unique(present if present.dtype.kind != "O" else present.astype(str))
        columns = [cell_text(value) for value in classes.tolist()]
    cells = np.where(labels.astype(classes.dtype)[:, None] == classes, "1", "0")
    cells[missing] = ""
    return pd.DataFrame(cells, columns=columns), classes


def _rows(X: Any, config: RunConfig) -> Rows:
    if isinstance(X, pd.DataFrame):
        return rows_from_table(table_from_frame(X), config.data)
    if isinstance(X, str) or not isinstance(X, Iterable):
        raise InputError(
            "The texts are not a list", expected="a sequence of texts", found=type(X).__name__
        )
    texts = [cell_text(text).strip() for text in X]
    return Rows(ids=[f"row-{i}" for i in range(1, len(texts) + 1)], texts=texts)


def _signal(name: str, scores: Any) -> Signal:
    if isinstance(scores, Signal):
        return scores
    values = np.asarray(scores, dtype=float)
    present = ~np.isnan(values).any(axis=1)
    return Signal(name, values, "probabilities", np.asarray(present), "given")
