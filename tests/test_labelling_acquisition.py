"""The order of asking: what is asked first and why, the audit's fairness, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfusion.labelling.acquisition import (
    AUDIT,
    Pool,
    disagreement,
    draw,
    in_audit,
    k_centre,
    make_queue,
    suspicion,
    uncertainty,
)
from labelfusion.labelling.journal import text_hash

TOPICS = ("refund money invoice", "parcel courier delay", "password login screen")


def pool(n=120, *, seed=0, scored=True, multi_label=False, open_rows=None):
    rng = np.random.default_rng(seed)
    texts = [f"{TOPICS[i % 3]} number{i} word{i % 7}" for i in range(n)]
    ml, llm = (rng.dirichlet(np.ones(3), n) for _ in range(2))
    return Pool(
        texts,
        [text_hash(text) for text in texts],
        np.ones(n, dtype=bool) if open_rows is None else open_rows,
        multi_label,
        {"ml": ml, "llm": llm} if scored else {},
        (ml + llm) / 2 if scored else None,
        np.eye(3, dtype=int)[rng.integers(0, 3, n)],
    )


STRATEGIES = ["mixed", "disagreement", "margin", "diversity", "errors", "random"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("scored", [True, False])
def test_a_queue_is_stable_and_holds_each_open_row_once(strategy, scored):
    closed = np.arange(120) % 5 == 0
    made = pool(scored=scored, open_rows=~closed)
    queue = make_queue(made, strategy, seed=3, audit_share=0.2, known=closed)
    again = make_queue(made, strategy, seed=3, audit_share=0.2, known=closed)
    assert queue.order.tolist() == again.order.tolist()
    assert queue.reasons == again.reasons
    assert sorted(queue.order.tolist()) == np.flatnonzero(~closed).tolist()
    other = make_queue(made, strategy, seed=4, audit_share=0.2, known=closed)
    assert strategy in ("errors", "margin", "disagreement") or (
        other.order.tolist() != queue.order.tolist()
    )


def test_the_audit_is_its_share_of_the_queue_and_of_the_texts():
    queue = make_queue(pool(2000), "margin", seed=0, audit_share=0.25, count=200)
    places = np.flatnonzero(np.array(queue.reasons) == AUDIT)
    assert len(places) == 50
    assert np.diff(places).max() == 4
    hashes = pool(2000).hashes
    assert in_audit(hashes, 0, 0.25)[queue.order[places]].all()
    assert abs(in_audit(hashes, 0, 0.25).mean() - 0.25) < 0.04


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_audit_asks_no_model_and_grows_with_its_share(seed, one, other):
    made, bare = pool(60), pool(60, scored=False)
    small, large = sorted((one, other))
    first, second = in_audit(made.hashes, seed, small), in_audit(made.hashes, seed, large)
    assert not (first & ~second).any()

    def audited(which, strategy):
        queue = make_queue(which, strategy, seed=seed, audit_share=small)
        pairs = zip(queue.order, queue.reasons, strict=True)
        return [int(row) for row, reason in pairs if reason == AUDIT]

    assert audited(made, "margin") == audited(bare, "diversity")
    assert set(audited(made, "margin")) == set(np.flatnonzero(first))


def test_the_draw_goes_by_the_text_and_is_even():
    hashes = [text_hash(str(i)) for i in range(4000)]
    u = draw(hashes, 7, AUDIT)
    assert ((u >= 0) & (u < 1)).all()
    assert np.allclose(np.quantile(u, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    assert draw(hashes[::-1], 7, AUDIT).tolist() == u[::-1].tolist()


def test_each_strategy_begins_with_what_it_looks_for():
    made = pool(90)
    assert made.fused is not None
    assert made.given is not None
    firsts = {
        "margin": uncertainty(made.fused, False),
        "disagreement": disagreement(list(made.sources.values()), False),
        "errors": suspicion(made.fused, made.given, False),
    }
    for strategy, score in firsts.items():
        order = make_queue(made, strategy, seed=0, audit_share=0).order
        assert (np.diff(score[order]) <= 1e-12).all()


def test_disagreement_is_zero_for_the_same_and_greatest_for_opposites():
    same = np.array([[0.7, 0.3], [1.0, 0.0]])
    assert disagreement([same, same], False) == pytest.approx([0, 0])
    opposite = disagreement([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], False)
    assert opposite == pytest.approx([np.log(2)])
    gap = disagreement([same, np.full((2, 2), np.nan)], False)
    assert np.isnan(gap).all()
    several = disagreement([np.array([[1.0, 1.0]]), np.array([[0.0, 1.0]])], True)
    assert several == pytest.approx([np.log(2)])


def test_rows_without_scores_come_last_but_come():
    made = pool(40)
    assert made.fused is not None
    made.fused[:20] = np.nan
    order = make_queue(made, "margin", seed=0, audit_share=0).order
    assert set(order[:20].tolist()) == set(range(20, 40))
    assert len(order) == 40


def test_diversity_covers_every_topic_before_it_repeats_one():
    made = pool(90, scored=False)
    order = make_queue(made, "diversity", seed=1, audit_share=0).order
    assert {int(i) % 3 for i in order[:3]} == {0, 1, 2}


def test_k_centre_keeps_away_from_what_is_known():
    rows = np.eye(4)[[0, 0, 1, 2, 3]]
    picked = k_centre(rows, 3, chosen=np.array([0]), candidates=np.arange(1, 5), seed=0)
    assert set(picked.tolist()) == {2, 3, 4}
    assert len(k_centre(rows, 9, chosen=np.array([0]), candidates=np.arange(1, 5), seed=0)) == 4


def test_k_centre_is_the_greedy_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 5))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    picked = k_centre(rows, 10, chosen=np.array([0]), candidates=np.arange(1, 60), seed=0)
    have = [0]
    for row in picked:
        far = (rows @ rows[have].T).max(axis=1)
        far[have] = np.inf
        assert far[row] == pytest.approx(far.min(), abs=1e-5)
        have.append(int(row))


@pytest.mark.parametrize("texts", [["", "!", "?"], ["a a"] * 3, ["same words"] * 80])
def test_texts_without_telling_words_are_still_asked_about(texts):
    made = Pool(texts, [str(i) for i in range(len(texts))], np.ones(len(texts), bool), False, {})
    assert len(make_queue(made, "diversity", seed=0, audit_share=0).order) == len(texts)


def test_nothing_open_is_an_empty_queue():
    made = pool(30, open_rows=np.zeros(30, dtype=bool))
    for strategy in STRATEGIES:
        assert len(make_queue(made, strategy, seed=0, audit_share=0.2).order) == 0
