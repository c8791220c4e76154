"""Texts a second of the frozen encoder: ours beside raw forwards, and beside fixed padding.

The same texts, weights and batch size for all, in turn within each repetition; one repetition goes
before and is not counted. Ours is what a run does: keys, cache on disk, tokens, passes, vectors
stored. The hand-written loop tokenises, sorts by length and sends padded batches through the
network, mean-pooled, and keeps nothing. Medians of the repetitions' ratios, with a 95 % interval
by the bootstrap, of seconds by the clock and of processor seconds, which other work on the machine
does not change. Every text is forwarded exactly once by ours, or the program ends.

    python -m benchmarks.encoder_throughput --data FOLDER [--task tickets] [--texts 400] [--onnx]

--onnx adds onnxruntime (packages onnx, onnxscript and onnxruntime) on the same sorted batches.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.label_budget import SAMPLES, TASKS
from benchmarks.paths import add_data_option, require
from benchmarks.timing import clocks, in_turn, speed_table
from labelfusion.encoders.embedding_cache import MemoryCache, open_cache
from labelfusion.encoders.embeddings import Embedder
from labelfusion.encoders.pretrained import Pretrained, find_pretrained, load_transformer
from labelfusion.encoders.tokens import shared_memo

OURS, SORTED, FIXED, ONNX = "LabelFusion", "sorted raw forwards", "padded to 128", "onnxruntime"
FIXED_TOKENS = 128


@dataclass(frozen=True)
class Work:
    """What every system is given. `loaded`: tokenizer and network, so that loading is not timed."""

    texts: list[str]
    model: Pretrained
    loaded: tuple[Any, Any]
    batch_size: int
    max_tokens: int


def main() -> None:
    """Print one Markdown row per system."""
    args = _arguments()
    work = _work(args)
    systems: dict[str, Callable[[Work], np.ndarray]] = {
        OURS: ours,
        SORTED: sorted_forwards,
        FIXED: fixed_padding,
    }
    if args.onnx:
        systems[ONNX] = onnx_forwards(work)
    # Padded to a fixed length, texts of more tokens are cut.
    expected = {
        name: (fixed_padding if name == FIXED else sorted_forwards)(work) for name in systems
    }
    seconds = in_turn(
        {name: partial(timed, run, work, expected[name]) for name, run in systems.items()},
        args.repeats,
    )
    print(f"{len(work.texts)} texts, {work.batch_size} a batch, {args.repeats} repetitions\n")
    print("\n".join(speed_table(len(work.texts), seconds, OURS)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument("--task", choices=("ag_news", "tickets"), default="ag_news")
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--onnx", action="store_true")
    return parser.parse_args()


def _work(args: argparse.Namespace) -> Work:
    folder = SAMPLES if args.task == "tickets" else args.data
    rows = pd.read_csv(require(folder / TASKS[args.task].file))
    texts = list(dict.fromkeys(rows["text"]))[: args.texts]
    model = find_pretrained("minilm", MemoryCache())
    return Work(texts, model, load_transformer(model, "cpu"), args.batch_size, args.max_tokens)


def timed(run: Callable[[Work], np.ndarray], work: Work, expected: np.ndarray) -> np.ndarray:
    """(2,) seconds of a run that must give the vectors that are expected."""
    begun = clocks()
    vectors = run(work)
    taken = clocks() - begun
    if not np.allclose(vectors, expected, atol=1e-4):
        raise SystemExit(f"{run} made other vectors")
    return taken


def ours(work: Work) -> np.ndarray:
    """`Embedder`, with an empty cache on disk."""
    with tempfile.TemporaryDirectory() as folder:
        embedder = Embedder(
            work.model,
            open_cache(Path(folder)),
            max_tokens=work.max_tokens,
            batch_size=work.batch_size,
            device="cpu",
            loaded=work.loaded,
        )
        shared_memo.cache_clear()
        vectors = embedder.embed(work.texts)
    if embedder.forwarded != len(work.texts):
        raise SystemExit(f"{embedder.forwarded} forwards of {len(work.texts)} texts")
    return vectors


def sorted_forwards(work: Work) -> np.ndarray:
    """What one writes by hand: sort by length, pad each batch to its longest, pool."""
    import torch

    tokenizer, network = work.loaded
    coded = tokenizer(work.texts, truncation=True, max_length=work.max_tokens)["input_ids"]
    order = np.argsort([-len(ids) for ids in coded], kind="stable")
    out = np.empty((len(coded), network.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), work.batch_size):
            rows = order[start : start + work.batch_size]
            batch = tokenizer.pad({"input_ids": [coded[i] for i in rows]}, return_tensors="pt")
            out[rows] = _pooled(network(**batch).last_hidden_state, batch["attention_mask"])
    return out


def fixed_padding(work: Work) -> np.ndarray:
    """Batches as they come, each text padded to FIXED_TOKENS."""
    import torch

    tokenizer, network = work.loaded
    parts = []
    with torch.inference_mode():
        for start in range(0, len(work.texts), work.batch_size):
            batch = tokenizer(
                work.texts[start : start + work.batch_size],
                truncation=True,
                max_length=FIXED_TOKENS,
                padding="max_length",
                return_tensors="pt",
            )
            parts.append(_pooled(network(**batch).last_hidden_state, batch["attention_mask"]))
    return np.concatenate(parts)


def _pooled(hidden: Any, mask: Any) -> np.ndarray:
    import torch

    weights = mask.unsqueeze(-1).float()
    means = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1).numpy()


def onnx_forwards(work: Work) -> Callable[[Work], np.ndarray]:
    """`sorted_forwards` with the network exported to ONNX in single precision."""
    import onnxruntime
    import torch

    tokenizer, network = work.loaded
    path = Path(tempfile.mkdtemp()) / "network.onnx"
    example = tokenizer(["one text", "another, longer text"], padding=True, return_tensors="pt")
    size = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens")}
    names = ("input_ids", "attention_mask", "token_type_ids")
    torch.onnx.export(
        network,
        kwargs={name: example[name] for name in names},
        f=str(path),
        input_names=list(names),
        output_names=["hidden"],
        dynamic_shapes=dict.fromkeys(names, size),
        dynamo=True,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])

    def run(work: Work) -> np.ndarray:
        coded = tokenizer(work.texts, truncation=True, max_length=work.max_tokens)["input_ids"]
        order = np.argsort([-len(ids) for ids in coded], kind="stable")
        out = np.empty((len(coded), network.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), work.batch_size):
            rows = order[start : start + work.batch_size]
            batch = tokenizer.pad({"input_ids": [coded[i] for i in rows]}, return_tensors="np")
            mask = batch["attention_mask"]
            inputs = {"input_ids": batch["input_ids"], "attention_mask": mask}
            hidden = session.run(["hidden"], inputs | {"token_type_ids": np.zeros_like(mask)})[0]
            out[rows] = _pooled(torch.from_numpy(hidden), torch.from_numpy(mask))
        return out

    return run


if __name__ == "__main__":
    main()
