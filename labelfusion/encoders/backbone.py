"""A transformer on a device, with its tokenizer: tokens in, pooled vectors out.

Knows devices, precision and memory. Does not know labels or how the weights are trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from labelfusion.config import LoRAConfig
from labelfusion.encoders.batches import MicroBatch, free_memory
from labelfusion.encoders.embeddings import pooled
from labelfusion.encoders.lora import merged, with_adapters
from labelfusion.encoders.pretrained import Pretrained, choose_device, load_transformer
from labelfusion.encoders.tokens import shared_memo, token_limit
from labelfusion.errors import ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]
Tokens = Sequence[np.ndarray]


class Backbone:
    """One copy of a transformer's weights, in full precision, that may be trained.

    Attributes:
        network: the transformers model.
        tokenizer: its tokenizer.
        device: where it is.
        mixed: whether its forward passes compute in bfloat16.
    """

    def __init__(
        self, model: Pretrained, *, device: str, precision: Precision, max_tokens: int
    ) -> None:
        self.device = choose_device(device)
        self.mixed = _mixed(self.device.type, precision)
        self.tokenizer, network = load_transformer(model, str(self.device))
        # Weights may be stored in half precision, in which small steps would be lost.
        self.network: Any = network.float()
        limit = token_limit(self.tokenizer, network, max_tokens)
        self._memo = shared_memo(model.digest, limit)

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, cut at the limit."""
        return self._memo.ids(self.tokenizer, texts)

    def pooled(self, tokens: Tokens) -> torch.Tensor:
        """(n, d) float32 L2-normalised vectors, in one forward pass."""
        with self._autocast():
            return pooled(self.network, tokens, self.tokenizer.pad_token_id)

    def features(
        self, tokens: Tokens, micro: MicroBatch, on_done: Callable[[int], None]
    ) -> np.ndarray:
        """(n, d) float32, longest texts first so that memory peaks at once. No gradients.

        `on_done` is told after each pass how many texts are done.
        """
        import torch

        order = np.argsort([-len(row) for row in tokens], kind="stable")
        out = np.empty((len(tokens), self.network.config.hidden_size), dtype=np.float32)
        self.network.eval()
        done = 0
        with torch.inference_mode():
            while done < len(order):
                left = order[done:]
                done += micro.run(lambda size, left=left: self._forward(tokens, left[:size], out))
                on_done(done)
        return out

    def _forward(self, tokens: Tokens, rows: np.ndarray, out: np.ndarray) -> int:
        out[rows] = self.pooled([tokens[i] for i in rows]).cpu().numpy()
        return len(rows)

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Each parameter that is trained, once, with its name."""
        return ((name, p) for name, p in self.network.named_parameters() if p.requires_grad)

    def adapt(self, config: LoRAConfig, seed: int) -> None:
        """Keep the weights as they are, and train adapters in their place until `merge`."""
        self.network = with_adapters(self.network, config, seed)

    def merge(self) -> None:
        """Make the adapters, if there are some, part of the weights."""
        if hasattr(self.network, "peft_config"):
            self.network = merged(self.network)

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Leave the device's memory to other processes for a while."""
        self.network.to("cpu")
        free_memory()
        try:
            yield
        finally:
            self.network.to(self.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext()


def _mixed(device: str, precision: Precision) -> bool:
    """bfloat16 on a GPU that has it: CPUs compute it slower than full precision."""
    import torch

    able = device == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bf16" and not able:
        raise ConfigError(
            f"Mixed precision needs a GPU that computes in bfloat16; the device is {device}",
            where="ml.training.precision",
            found="bf16",
            remedy="Set precision: auto",
        )
    return able and precision != "fp32"
