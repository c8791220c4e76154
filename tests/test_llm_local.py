"""The local causal LM, on a tiny random model that the test makes."""

from __future__ import annotations

import numpy as np
import pytest

from labelfusion.cache.memory import MemoryCache
from labelfusion.config import LLMConfig
from labelfusion.errors import ModelError
from labelfusion.llm import ScoringContext, TrainingTexts, score_rows
from labelfusion.llm.providers.local import LocalModel
from labelfusion.types import LabelSpace, Rows

SPACE = LabelSpace(("red", "deep blue", "green"), multi_label=False)
ROWS = Rows(["1", "2", "3"], ["the sea", "grass {grows}", "the sea"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(path)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def entry(folder, **settings):
    return LLMConfig(provider="local", model=str(folder), **settings)


def test_scores_are_the_log_likelihoods_of_the_label_names(folder):
    import torch

    signal = score_rows(entry(folder), ROWS, SPACE)
    assert signal.kind == "logits"
    assert signal.coverage == 1
    tokenizer, model = LocalModel(str(folder))._loaded
    prompt = "Labels:\n- deep blue\n- green\n- red\n\nText: grass {grows}\nLabel:"
    for j, name in enumerate(SPACE.names):
        ids = tokenizer.encode(prompt) + (tail := tokenizer.encode(f" {name}"))
        with torch.inference_mode():
            steps = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(steps[len(ids) - len(tail) - 1 + i, t].item() for i, t in enumerate(tail))
        assert signal.scores[1, j] == pytest.approx(expected, abs=1e-3)


def test_label_order_changes_nothing_but_the_columns_and_is_cached(folder):
    cache = MemoryCache(10**6)
    context = ScoringContext(cache=cache)
    first = score_rows(entry(folder), ROWS, SPACE, context=context)
    permuted = LabelSpace(("green", "red", "deep blue"), multi_label=False)
    second = score_rows(entry(folder), ROWS, permuted, context=context)
    np.testing.assert_array_equal(first.scores[:, [2, 0, 1]], second.scores)
    assert cache.stats().entries == 2


def test_several_labels_are_log_odds_each(folder):
    space = LabelSpace(SPACE.names, multi_label=True)
    signal = score_rows(entry(folder), ROWS, space)
    assert signal.scores.shape == (3, 3)
    model = LocalModel(str(folder))
    prefix = "Labels:\n- deep blue\n- green\n- red\n\nText: "
    question = '\nDoes the label "red" apply? Answer:'
    yes, no = model.log_likelihoods(prefix, "the sea", question, (" yes", " no"))
    assert signal.scores[0, 0] == pytest.approx(yes - no, abs=1e-6)


def test_long_texts_are_cut_and_long_instructions_refused(folder):
    signal = score_rows(entry(folder), Rows(["1"], ["x" * 50_000]), SPACE)
    assert np.isfinite(signal.scores).all()
    with pytest.raises(ModelError, match="no room for texts"):
        score_rows(entry(folder, prompt={"task": "t" * 300}), ROWS, SPACE)


def test_own_example_is_left_out(folder):
    training = TrainingTexts(["1"], ["the sea"], np.array([[0, 1, 0]], dtype=np.int8))
    few_shot = entry(folder, prompt={"examples": {"strategy": "static", "count": 1}})
    with_examples = score_rows(few_shot, ROWS, SPACE, context=ScoringContext(training=training))
    without = score_rows(entry(folder), ROWS, SPACE)
    np.testing.assert_array_equal(with_examples.scores[0], without.scores[0])
    assert (with_examples.scores[1] != without.scores[1]).any()


def test_absent_model_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty"):
        score_rows(entry(tmp_path / "empty"), ROWS, SPACE)


def test_a_name_that_is_no_folder_and_cannot_be_fetched_is_named_at_once(monkeypatch):
    asked = []

    def offline(name, **_):
        asked.append(name)
        raise ConnectionError("no route to the hub\nand so on")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ModelError, match=r"llm\.model.*'nobody/none'.*no route.*a folder"):
        score_rows(entry("nobody/none"), ROWS, SPACE)
    assert asked == ["nobody/none"]
