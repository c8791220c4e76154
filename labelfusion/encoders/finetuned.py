"""A transformer trained whole: its weights and a linear head, from the labelled texts.

The head begins as the logistic head over the frozen embeddings, and training moves both on from
there (linear probing, then fine-tuning: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained
Features", §4). So a training starts where the frozen encoder ends, and early stopping can end where
it started. Knows how backbone, head, training and checkpoint fit together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from labelfusion.config import MLConfig
from labelfusion.encoders import storage
from labelfusion.encoders.backbone import Backbone, Tokens
from labelfusion.encoders.batches import MicroBatch
from labelfusion.encoders.checkpoint import Checkpoint, TrainingProgress, remove_old
from labelfusion.encoders.embedding_cache import MemoryCache
from labelfusion.encoders.embeddings import Embedder, shared_cache
from labelfusion.encoders.head import LogisticHead, fit_head
from labelfusion.encoders.launch import Assignment, train_in_processes
from labelfusion.encoders.lora import require_peft
from labelfusion.encoders.optimisation import Learner, MakeLearner, TrainingRows
from labelfusion.encoders.pretrained import (
    Pretrained,
    describe,
    find_pretrained,
    no_progress_bar,
)
from labelfusion.encoders.progress import Progress
from labelfusion.encoders.team import process_count
from labelfusion.encoders.training import Plan, Training
from labelfusion.encoders.training_cost import stops_early, training_cost
from labelfusion.errors import ModelError
from labelfusion.tasks import task_for
from labelfusion.types import Event, LabelSpace, OnEvent, ignore_event

BACKBONE = "finetuned"
WEIGHTS_FOLDER = "transformer"
CHECKPOINT_FOLDER = "fine_tuning"


class FineTunedEncoder:
    """See `labelfusion.encoders.base.Encoder`.

    Attributes:
        name: the transformer that training starts from.
        curve: the loss curves: epoch, step, training_loss, validation_loss (nats a text).
    """

    def __init__(
        self,
        config: MLConfig,
        space: LabelSpace,
        *,
        seed: int,
        cache_dir: Path | None,
        trained: tuple[str, Pretrained] | None = None,
    ) -> None:
        self.space, self.seed, self.config = space, seed, config
        if trained is None:
            if config.lora is not None:
                require_peft()
            process_count(config)
            self._weights = self._pretrained(cache_dir)
            self.name = self._weights.name
            # A relative folder would be looked for elsewhere when loaded from elsewhere.
            self.config = config.model_copy(update={"encoder": self._weights.source})
        else:
            self.name, self._weights = trained
        self.head: LogisticHead | None = None
        self.progress = TrainingProgress()
        self._cache_dir, self._task = cache_dir, task_for(space)
        self._backbone: Backbone | None = None
        self._checkpoint: Checkpoint | None = None

    @property
    def origin(self) -> str:
        how = "fine-tuned" if self.config.lora is None else "fine-tuned by LoRA"
        return f"{self.name} ({how})"

    @property
    def curve(self) -> list[dict[str, Any]]:
        return self.progress.curve

    def prepare(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> None:
        """Say what cross-fitting and the training on all of `texts` will cost, and embed them.

        Every fold's head begins over the same embeddings, those of the pretrained weights.
        """
        cost = training_cost(self.config, len(texts))
        on_event(
            Event("ml", "note", cost.sentence, 0, cost.passes, "texts", {"cost": asdict(cost)})
        )
        self._embedder().embed(texts, on_event)

    def _embedder(self, backbone: Backbone | None = None) -> Embedder:
        """Of the pretrained weights, which `backbone` holds as yet."""
        return Embedder(
            self._weights,
            shared_cache(self._cache_dir),
            max_tokens=self.config.max_tokens,
            batch_size=self.config.batch_size,
            device=self.config.device,
            loaded=backbone and (backbone.tokenizer, backbone.network),
        )

    def fit(
        self, texts: Sequence[str], targets: np.ndarray, on_event: OnEvent = ignore_event
    ) -> None:
        """Train on labelled texts, from a checkpoint of the same training if there is one.

        Raises:
            InputError: no rows, or a multi-class row without exactly one label.
            ModelError: the model cannot be loaded, does not learn, or needs too much memory.
            ConfigError: the device, the precision or the package for LoRA or for several processes
                is not to be had.
        """
        self._fit(texts, targets, on_event, n_total=None)

    def score_held_out(
        self,
        texts: Sequence[str],
        targets: np.ndarray,
        held_out: Sequence[str],
        on_event: OnEvent = ignore_event,
    ) -> np.ndarray:
        """(m, k) logits of `held_out` after a training on `texts`; remembered by content."""

        def score() -> np.ndarray:
            self._fit(texts, targets, on_event, n_total=len(texts) + len(held_out))
            return self.logits(held_out, on_event)

        key = hashed(b"held out", self._key(texts, targets).encode(), packed(held_out))
        return self._remembered(key, score, len(held_out), on_event)

    def _remembered(
        self, key: str, score: Callable[[], np.ndarray], n: int, on_event: OnEvent
    ) -> np.ndarray:
        """What `score` returns, (n, …) after a training, or returned for the same key before."""
        cache = shared_cache(self._cache_dir)
        known = cache.get_many([key]).get(key)
        if known is not None:
            on_event(Event("ml", "note", "Scores taken from an earlier training on the same texts"))
            return np.frombuffer(known).reshape(n, -1)
        scores = score()
        cache.put_many({key: np.ascontiguousarray(scores).tobytes()})
        self._forget_checkpoint()
        return scores

    def _fit(
        self,
        texts: Sequence[str],
        targets: np.ndarray,
        on_event: OnEvent,
        n_total: int | None,
    ) -> None:
        # Made anew, because nothing of an earlier fit may remain.
        self.progress = TrainingProgress()
        self._weights = self._pretrained(self._cache_dir)
        self._backbone = backbone = self._load()
        self._checkpoint = self._open_checkpoint(texts, targets)
        train, validation = self._divide(targets)
        trained_on: list[int] = train.tolist()
        known = [texts[i] for i in trained_on]
        probe = self._probe(backbone, known, targets[train], on_event)
        if not probe.fitted.any():
            self.head = probe
            return
        rows = self._training_rows(backbone.tokens(texts), targets[:, probe.fitted])
        if self.config.lora is not None:
            backbone.adapt(self.config.lora, self.seed)
        make, micro = self._learner(probe, rows), MicroBatch(self.config.batch_size, on_event)
        learner = make(backbone=backbone, micro=micro)
        plan = self._plan(train, validation, n_total)
        self._train(learner, make, plan, on_event)
        backbone.merge()
        self._take_over(probe, learner.head_arrays())

    def _train(self, learner: Learner, make: MakeLearner, plan: Plan, on_event: OnEvent) -> None:
        """Leave the best weights in `learner`, trained by it or in processes that make theirs."""
        count = process_count(self.config)
        if count == 1:
            self.progress = Training(learner, plan, self._checkpoint, on_event).run()
            return
        assignment = Assignment(
            device=learner.backbone.device.type,
            load=self._loading(),
            lora=self.config.lora,
            learner=make,
            plan=plan,
            micro_size=learner.micro.size,
            checkpoint=self._checkpoint,
        )
        with learner.backbone.set_aside():
            trained = train_in_processes(assignment, count, on_event)
        self.progress = trained.progress
        learner.restore(trained.state)

    def _take_over(self, probe: LogisticHead, trained: Mapping[str, np.ndarray]) -> None:
        """Labels without rows of both kinds keep their prior."""
        weights, bias = probe.weights.copy(), probe.bias.copy()
        weights[:, probe.fitted], bias[probe.fitted] = trained["weights"], trained["bias"]
        self.head = replace(probe, weights=weights, bias=bias)

    def _pretrained(self, cache_dir: Path | None) -> Pretrained:
        return find_pretrained(self.config.encoder, shared_cache(cache_dir))

    def _load(self) -> Backbone:
        return self._loading()()

    def _loading(self) -> Callable[[], Backbone]:
        return partial(
            Backbone,
            self._weights,
            device=self.config.device,
            precision=self.config.training.precision,
            max_tokens=self.config.max_tokens,
        )

    def _divide(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows for early stopping; none of these if they would be too few."""
        from labelfusion.data.stratification import stratified_test_rows

        training, n = self.config.training, len(targets)
        if not stops_early(training, n):
            return np.arange(n), np.arange(0)
        rng = np.random.default_rng(self.seed)
        kept = stratified_test_rows(targets, self.space, training.validation_share, rng)
        return np.flatnonzero(~kept), np.flatnonzero(kept)

    def _probe(
        self, backbone: Backbone, texts: Sequence[str], targets: np.ndarray, on_event: OnEvent
    ) -> LogisticHead:
        features = self._embedder(backbone).embed(texts, on_event).astype(float)
        return fit_head(features, targets, self._task, c=self.config.c, seed=self.seed)

    def _training_rows(self, tokens: Tokens, targets: np.ndarray) -> TrainingRows:
        return TrainingRows.weighted(
            tokens,
            targets,
            multi_label=self.space.multi_label,
            balanced=self.config.training.class_weights == "balanced",
        )

    def _learner(self, probe: LogisticHead, rows: TrainingRows) -> MakeLearner:
        """What makes a learner that starts at `probe`; other processes can be given it."""
        head = started_head(probe)
        return partial(Learner, head=head, rows=rows, config=self.config.training)

    def _plan(self, train: np.ndarray, validation: np.ndarray, n_total: int | None) -> Plan:
        training = self.config.training
        batch_size = self.config.batch_size * training.gradient_accumulation
        plan = Plan(train, validation, batch_size, self.seed, 0, training)
        of_all = training_cost(self.config, n_total).passes if n_total else plan.passes
        return replace(plan, passes_of_all=of_all)

    def logits(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        head = storage.fitted(self.head)
        if not len(texts):
            return np.empty((0, len(self.space)))
        return head.logits(self.embed(texts, on_event).astype(float), self._task)

    def embed(self, texts: Sequence[str], on_event: OnEvent = ignore_event) -> np.ndarray:
        """(n, d) float32 L2-normalised vectors of the trained transformer."""
        storage.fitted(self.head)
        if self._backbone is None:
            self._backbone = self._load()
        tokens = self._backbone.tokens(texts)
        micro = MicroBatch(self.config.batch_size, on_event)
        return self._backbone.features(tokens, micro, _telling(on_event, self.name, len(texts)))

    def save(self, folder: Path) -> None:
        """Write the head, the loss curves, and the transformer as transformers itself stores it."""
        head, backbone = storage.fitted(self.head), self._backbone or self._load()
        weights = folder / WEIGHTS_FOLDER
        with no_progress_bar():
            backbone.network.save_pretrained(weights)
        backbone.tokenizer.save_pretrained(weights)
        digest = describe(self.name, str(weights), weights, MemoryCache()).digest
        storage.write(folder, self.space, self._stored(head, digest))
        self._forget_checkpoint()

    def _stored(self, head: LogisticHead, weights_digest: str) -> storage.Stored:
        details = {
            "model": self.name,
            "weights_digest": weights_digest,
            "training": asdict(self.progress),
        }
        return storage.Stored(BACKBONE, self.config, self.seed, head, details, {})

    @classmethod
    def restore(
        cls, stored: storage.Stored, space: LabelSpace, folder: Path, cache_dir: Path | None
    ) -> Self:
        """Raises ModelError if the weights beside it are absent or not those that were saved."""
        weights, name = folder / WEIGHTS_FOLDER, stored.details["model"]
        model = describe(name, str(weights), weights, shared_cache(cache_dir))
        if model.digest != stored.details["weights_digest"]:
            raise ModelError(
                f"The fine-tuned weights of {name!r} are damaged or have been changed",
                where=str(weights),
                expected=f"digest {stored.details['weights_digest']}",
                found=f"digest {model.digest}",
                remedy="Put the saved files back, or train again",
            )
        trained = (name, model)
        encoder = cls(stored.config, space, seed=stored.seed, cache_dir=cache_dir, trained=trained)
        encoder.head = stored.head
        encoder.progress = TrainingProgress(**stored.details["training"])
        return encoder

    def _open_checkpoint(self, texts: Sequence[str], targets: np.ndarray) -> Checkpoint | None:
        if self._cache_dir is None:
            return None
        folder = Path(self._cache_dir) / CHECKPOINT_FOLDER
        remove_old(folder)
        return Checkpoint(folder / self._key(texts, targets))

    def _forget_checkpoint(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.remove()

    def _key(self, texts: Sequence[str], targets: np.ndarray) -> str:
        """Of everything that decides what a training of the pretrained weights comes to."""
        elsewhere = {"encoder": True, "folds": True, "training": {"processes"}}
        config = self.config.model_dump(mode="json", exclude=elsewhere)
        settings = [
            self._weights.digest,
            config,
            self.seed,
            self.space.names,
            self.space.multi_label,
        ]
        rows = np.ascontiguousarray(targets, dtype=np.int8).tobytes()
        return hashed(json.dumps(settings).encode(), packed(texts), rows)


def started_head(probe: LogisticHead) -> dict[str, np.ndarray]:
    """What a learner's linear head begins as: that of the labels that were fitted."""
    return {"weights": probe.weights[:, probe.fitted], "bias": probe.bias[probe.fitted]}


def _telling(on_event: OnEvent, name: str, total: int) -> Callable[[int], None]:
    progress = Progress(on_event, total)
    return lambda done: progress.tell(done, f"Embedding with {name}")


def packed(texts: Sequence[str]) -> bytes:
    """Texts as bytes to be hashed."""
    return json.dumps(list(texts)).encode()


def hashed(*parts: bytes) -> str:
    """A key of parts, none of which can run into the next."""
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(digests).hexdigest()
