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


def write_tiny_architecture(folder: Path, architecture: str, seed: int = 0) -> Path:
    """Save a 2-layer network of another architecture ("roberta", "modernbert", "deberta-v2", …).

    Its tokenizer names no limit of its own, as many local folders do.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))  # type: ignore
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        cls_token_id=0,
        sep_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder
