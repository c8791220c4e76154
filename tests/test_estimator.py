"""AutoFusionClassifier as scikit-learn users hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from labelfusion import AutoFusionClassifier
from labelfusion.errors import ConfigError, InputError, RunError

SAMPLES = Path(__file__).parent.parent / "sample_data"


@pytest.fixture(scope="module")
def tickets() -> pd.DataFrame:
    return pd.read_csv(SAMPLES / "tickets.csv", dtype=str)


@pytest.fixture(scope="module")
def scores_by_text(tickets: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scores = pd.read_csv(SAMPLES / "tickets_llm_scores.csv", dtype=str)
    merged = tickets[["id", "text"]].merge(scores, on="id").drop(columns="id")
    path = tmp_path_factory.mktemp("scores") / "by_text.csv"
    merged.to_csv(path, index=False)
    return path


def test_fit_on_a_dataframe_with_columns_named_in_the_config(tickets: pd.DataFrame) -> None:
    model = AutoFusionClassifier(
        encoder="tfidf",
        label_column="label",
        id_column="id",
        llm_scores=str(SAMPLES / "tickets_llm_scores.csv"),
    )
    model.fit(tickets.iloc[:200])
    held_out = tickets.iloc[200:]
    assert model.score(held_out, held_out["label"]) > 0.94
    assert set(model.classes_) == set(tickets["label"])


def test_predictions_keep_the_type_of_the_labels(tickets: pd.DataFrame) -> None:
    codes = tickets["label"].astype("category").cat.codes.to_numpy() + 5
    model = AutoFusionClassifier(encoder="tfidf").fit(tickets["text"].tolist(), codes)
    assert model.classes_.tolist() == list(range(5, 12))
    assert model.predict(["where is my parcel"]).dtype.kind == "i"


def test_integer_classes_are_in_numeric_order() -> None:
    y = np.repeat([2, 10], 15)
    texts = [f"{'red apple' if label == 2 else 'blue sea'} {i}" for i, label in enumerate(y)]
    model = AutoFusionClassifier(encoder="tfidf").fit(texts, y)
    assert model.classes_.tolist() == [2, 10]
    assert model.predict(["a red apple", "the blue sea"]).tolist() == [2, 10]
    assert model.predict_proba(["a red apple"])[0].argmax() == 0


def test_clone_and_parameters() -> None:
    model = AutoFusionClassifier({"label_column": "label"}, encoder="tfidf", fusion__method="auto")
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    copy.set_params(fusion__method="log_pool")
    assert model.get_params()["fusion__method"] == "auto"
    with pytest.raises(ConfigError, match="Did you mean 'encoder'"):
        model.set_params(encodr="tfidf")


def test_cross_val_score_and_grid_search(tickets: pd.DataFrame, scores_by_text: Path) -> None:
    texts, labels = tickets["text"].to_numpy(), tickets["label"].to_numpy()
    model = AutoFusionClassifier(
        encoder="tfidf", fusion_method="matrix_pool", llm_scores=str(scores_by_text)
    )
    assert cross_val_score(model, texts, labels, cv=3).mean() > 0.94
    methods = {"fusion_method": ["llm", "matrix_pool"]}
    search = GridSearchCV(model, methods, cv=2, refit=False).fit(texts, labels)
    assert search.best_params_ == {"fusion_method": "matrix_pool"}


def test_base_learner_of_a_voting_classifier(tickets: pd.DataFrame, scores_by_text: Path) -> None:
    names = sorted(tickets["label"].unique())
    fused = AutoFusionClassifier(
        encoder="tfidf",
        llm_scores=str(scores_by_text),
        label_descriptions=dict.fromkeys(names, ""),
    )
    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    vote = VotingClassifier([("fused", fused), ("words", words)], voting="soft", weights=[3, 1])
    vote.fit(tickets["text"][:300], tickets["label"][:300])
    assert vote.score(tickets["text"][300:], tickets["label"][300:]) > 0.94


def test_multi_label_fit_and_indicator_output() -> None:
    reviews = pd.read_csv(SAMPLES / "reviews.csv", dtype=str)
    names = list(reviews.columns[2:])
    model = AutoFusionClassifier(
        encoder="tfidf",
        id_column="id",
        label_columns=names,
        llm_scores=str(SAMPLES / "reviews_llm_scores.csv"),
    ).fit(reviews.iloc[:200])
    predicted = model.predict(reviews.iloc[200:])
    gold = reviews.iloc[200:][names].astype(int).to_numpy()
    assert predicted.shape == gold.shape
    assert model.classes_.tolist() == names
    assert (predicted == gold).all(axis=1).mean() > 0.9


def test_explain_sums_to_the_fused_log_odds(tickets: pd.DataFrame, scores_by_text: Path) -> None:
    model = AutoFusionClassifier(encoder="tfidf", llm_scores=str(scores_by_text))
    model.fit(tickets["text"][:150], tickets["label"][:150])
    told = model.explain([tickets["text"][400], "a text that nobody has scored"])
    fused = np.log(told["probability"]) - np.log1p(-told["probability"])
    total = told["prior"] + told["ml_contribution"] + told["llm_contribution"]
    np.testing.assert_allclose(total, fused, atol=1e-6)
    by_text = told.groupby("text")[["ml_present", "llm_present"]].first()
    assert by_text.to_numpy().tolist() == [[True, True], [True, False]]
    unscored = told[told["text"] == 1]
    assert (unscored["llm_contribution"] == 0).all()


def test_save_and_load_without_pickle(tickets: pd.DataFrame, tmp_path: Path) -> None:
    model = AutoFusionClassifier(encoder="tfidf").fit(tickets["text"][:150], tickets["label"][:150])
    folder = model.save(tmp_path / "model")
    assert not [f for f in folder.rglob("*") if f.suffix in (".pkl", ".pickle", ".joblib", ".pt")]
    loaded = AutoFusionClassifier.load(folder)
    texts = tickets["text"][150:].tolist()
    np.testing.assert_allclose(loaded.predict_proba(texts), model.predict_proba(texts), atol=1e-9)
    assert loaded.predict(texts).tolist() == model.predict(texts).tolist()
    with pytest.raises(RunError, match=r"AutoFusionClassifier\.save"):
        AutoFusionClassifier.load(tmp_path)


def test_the_papers_minimal_config_says_which_key_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    labels = ["positive", "negative", "neutral"]
    frame = pd.DataFrame(np.eye(3, dtype=int)[[0, 1, 2] * 10], columns=labels)
    frame["text"] = [f"{labels[i % 3]} words {i}" for i in range(30)]
    model = AutoFusionClassifier({"llm_provider": "deepseek", "label_columns": labels})
    with pytest.raises(ConfigError, match="DEEPSEEK_API_KEY"):
        model.fit(frame)


def test_bad_input_says_what_is_wrong(tickets: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="fit\\(texts, y\\)"):
        AutoFusionClassifier().fit(["a", "b"])
    with pytest.raises(InputError, match="pair up"):
        AutoFusionClassifier(encoder="tfidf").fit(["a"] * 12, ["x", "y"])
    with pytest.raises(InputError, match="'lable'"):
        AutoFusionClassifier(label_column="lable").fit(tickets)
