"""Texts a second of fine-tuning: ours beside the Hugging Face Trainer, and fixed padding.

The same texts, model, batch size, optimiser, schedule and precision for all, tokenized beforehand,
in turn within each repetition, each with fresh weights; one repetition goes before and is not
counted. Medians, with 95 % intervals, by the clock and in processor seconds, which other work on
the machine does not change (on a GPU they say nothing). Ours pads a batch to its longest text and
puts like lengths together; the Trainer is measured with its default batches, with like lengths
together, and with every text padded to --max-tokens.

    python -m benchmarks.training_speed --data FOLDER [--texts 800] [--repeats 5] [--device cuda]

The Trainer needs the package accelerate, which LabelFusion needs for several processes only.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.label_budget import TASKS
from benchmarks.paths import add_data_option, require
from benchmarks.timing import clocks, in_turn, speed_table
from labelfusion.config import TrainingConfig
from labelfusion.encoders.backbone import Backbone
from labelfusion.encoders.batches import MicroBatch
from labelfusion.encoders.embedding_cache import MemoryCache
from labelfusion.encoders.optimisation import Learner, TrainingRows
from labelfusion.encoders.pretrained import Pretrained, choose_device, find_pretrained
from labelfusion.encoders.training import Plan, Training
from labelfusion.types import ignore_event

OURS = "LabelFusion"


@dataclass(frozen=True)
class Work:
    """What every system is given; `targets` are (n, k) indicators."""

    texts: list[str]
    targets: np.ndarray
    model: Pretrained
    batch_size: int
    max_tokens: int
    device: str
    training: TrainingConfig


def main() -> None:
    """Print one Markdown row per system."""
    if importlib.util.find_spec("accelerate") is None:
        raise SystemExit("The Hugging Face Trainer needs accelerate: pip install accelerate")
    args = _arguments()
    work = _work(args)
    systems = {
        OURS: lambda: ours(work),
        "Trainer": lambda: trainer(work, padding="longest", sampling="random"),
        "Trainer, like lengths": lambda: trainer(
            work, padding="longest", sampling="group_by_length"
        ),
        "Trainer, fixed padding": lambda: trainer(work, padding="max_length", sampling="random"),
    }
    seconds = in_turn(systems, args.repeats)
    where = choose_device(args.device)
    print(
        f"{len(work.texts)} texts, {work.batch_size} a step, at most {work.max_tokens} tokens, "
        f"{where}, {args.repeats} repetitions\n"
    )
    print("\n".join(speed_table(len(work.texts), seconds, OURS)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument("--texts", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--weights", default="minilm", help="a folder with MiniLM's weights")
    return parser.parse_args()


def _work(args: argparse.Namespace) -> Work:
    rows = pd.read_csv(require(args.data / TASKS["ag_news"].file)).iloc[: args.texts]
    targets = pd.get_dummies(rows["label"]).to_numpy(dtype=np.int8)
    training = TrainingConfig(epochs=1, patience=0)
    model = find_pretrained(args.weights, MemoryCache())
    texts = rows["text"].tolist()
    return Work(texts, targets, model, args.batch_size, args.max_tokens, args.device, training)


def ours(work: Work) -> np.ndarray:
    """Seconds of one epoch as `ml.fine_tune` trains it."""
    backbone = Backbone(
        work.model, device=work.device, precision="auto", max_tokens=work.max_tokens
    )
    n, k = work.targets.shape
    rows = TrainingRows.weighted(
        backbone.tokens(work.texts), work.targets, multi_label=False, balanced=False
    )
    width = backbone.network.config.hidden_size
    head = {"weights": np.zeros((width, k)), "bias": np.zeros(k)}
    micro = MicroBatch(work.batch_size, ignore_event)
    learner = Learner(backbone, head, rows, work.training, micro)
    plan = Plan(np.arange(n), np.arange(0), work.batch_size, 0, 0, work.training)
    return _timed(lambda: Training(learner, plan, None, ignore_event).run())


def trainer(work: Work, *, padding: str, sampling: str) -> np.ndarray:
    """Seconds of one epoch of the Hugging Face Trainer with the same settings."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(work.model.folder, local_files_only=True)
    network = AutoModelForSequenceClassification.from_pretrained(
        work.model.folder, num_labels=work.targets.shape[1], local_files_only=True
    ).float()
    coded = tokenizer(work.texts, truncation=True, max_length=work.max_tokens)["input_ids"]
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(label)}
        for ids, label in zip(coded, work.targets.argmax(axis=1), strict=True)
    ]
    collator = DataCollatorWithPadding(tokenizer, padding=padding, max_length=work.max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        arguments = _trainer_arguments(work, folder, sampling)
        made = Trainer(
            model=network, args=arguments, train_dataset=_listed(rows), data_collator=collator
        )
        return _timed(made.train)


def _trainer_arguments(work: Work, folder: str, sampling: str) -> Any:
    import torch
    from transformers import TrainingArguments

    device = choose_device(work.device).type
    training = work.training
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=training.epochs,
        per_device_train_batch_size=work.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        warmup_steps=math.ceil(
            training.warmup_share * math.ceil(len(work.texts) / work.batch_size)
        ),
        max_grad_norm=1.0,
        train_sampling_strategy=sampling,
        bf16=device == "cuda" and torch.cuda.is_bf16_supported(),
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _listed(rows: list[dict[str, Any]]) -> Any:
    """The rows as the torch Dataset that the Trainer asks for."""
    from torch.utils.data import Dataset

    class Listed(Dataset):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, position: int) -> dict[str, Any]:
            return rows[position]

    return Listed()


def _timed(run: Callable[[], object]) -> np.ndarray:
    """(2,) seconds by the clock and of the processor."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    begun = clocks()
    run()
    wait()
    return clocks() - begun


if __name__ == "__main__":
    main()
