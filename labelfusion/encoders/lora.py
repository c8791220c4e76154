"""Low-rank adapters in place of training all weights (Hu et al. 2021, "LoRA", §4), through peft.

Knows how a network gets adapters, and how they become part of its weights. Does not know how they
are trained.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from labelfusion.config import LoRAConfig
from labelfusion.errors import MissingDependencyError


def require_peft() -> None:
    """Raises MissingDependencyError unless adapters can be made."""
    if importlib.util.find_spec("peft") is None:
        raise MissingDependencyError(
            "LoRA needs the package peft",
            where="ml.lora",
            remedy="pip install 'labelfusion[lora]', or leave ml.lora out to train all weights",
        )


def with_adapters(network: Any, config: LoRAConfig, seed: int) -> Any:
    """The transformers model with an adapter at each linear layer; only these require gradients.

    It computes what it did: the adapters begin at zero.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules="all-linear", bias="none"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(network, settings)


def merged(network: Any) -> Any:
    """The plain transformers model whose weights hold what the adapters learned."""
    return network.merge_and_unload()
