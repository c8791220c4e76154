"""A transformer of a few kilobytes with random weights, for tests that need none of its sense."""

from __future__ import annotations

from pathlib import Path

WORDS = [
    "the",
    "a",
    "my",
    "bike",
    "is",
    "broken",
    "lost",
    "invoice",
    "refund",
    "parcel",
    "late",
    "please",
    "help",
    "thanks",
    "app",
]


def write_tiny_transformer(folder: Path, seed: int = 0) -> Path:
    """Save a 2-layer BERT and its tokenizer into `folder`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    ids = {word: i for i, word in enumerate(vocabulary)}
    BertTokenizerFast(vocab=ids, do_lower_case=True).save_pretrained(folder)
    return folder
