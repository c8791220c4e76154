"""The configuration of a run: one validated object, from YAML, JSON, a dict or keywords.

Knows every setting, its default and its range. Does not read the data or check that a path exists:
`labelfusion.data` and the pipeline's check stage do, before anything is trained or paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from labelfusion.config_reading import (
    assign,
    config_error,
    expand_flat,
    parse_assignment,
    read_mapping,
)

SCHEMA_VERSION = 1

ProviderName = Literal[
    "recorded", "openai", "deepseek", "compatible", "anthropic", "gemini", "local"
]
RoutingName = Literal["always", "never", "margin", "budget"]
CalibrationName = Literal["auto", "identity", "temperature", "bias", "matrix", "isotonic"]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


StringList = Annotated[list[str], BeforeValidator(_as_list)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class DataConfig(_Section):
    """Where the texts and labels are, and how they are split."""

    path: str | None = None
    text_columns: StringList = Field(default_factory=lambda: ["text"], min_length=1)
    id_column: str | None = None
    label_column: str | None = None
    label_delimiter: str | None = Field(default=None, min_length=1)
    label_columns: StringList | None = None
    multi_label: bool | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    split_column: str | None = None
    test_size: float = Field(default=0.25, gt=0, lt=1)
    deduplicate: bool = True
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None

    @model_validator(mode="after")
    def _one_layout(self) -> DataConfig:
        if self.label_column and self.label_columns:
            raise ValueError("give label_column or label_columns, not both")
        if self.label_delimiter and not self.label_column:
            raise ValueError("label_delimiter needs label_column, the column it splits")
        return self


class TrainingConfig(_Section):
    """How a transformer is fine-tuned; read only where `ml.fine_tune` is true.

    `warmup_share`: of all steps; the rates rise over it and fall linearly to 0 after it.
    `patience`: epochs without a lower validation loss after which training stops; 0 trains all
    epochs on every row. `validation_share`: of the training rows, stratified, kept for that, where
    it comes to 20 rows or more.
    `processes`: among which each step's batch is divided; "auto" is one a CUDA device. The result
    is that of one process.
    `cross_fit`: how training rows get scores that did not see them; "auto" takes folds, and one
    hold-out (the first fold) from 2,000 rows on, because each fold is a training.
    """

    learning_rate: float = Field(default=2e-5, gt=0)
    head_learning_rate: float = Field(default=1e-3, gt=0)
    epochs: int = Field(default=5, ge=1, le=1000)
    max_steps: int | None = Field(default=None, ge=1)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    patience: int = Field(default=2, ge=0)
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    class_weights: Literal["none", "balanced"] = "none"
    gradient_accumulation: int = Field(default=1, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    cross_fit: Literal["auto", "folds", "holdout"] = "auto"
    processes: PositiveInt | Literal["auto"] = 1


class LoRAConfig(_Section):
    """Low-rank adapters: matrices of `rank`, whose product is scaled by `alpha` / `rank`."""

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: int = Field(default=16, ge=1)


class MLConfig(_Section):
    """The encoder side. `encoder: none` runs on LLM scores alone.

    `fine_tune` trains the transformer too, as `training` says; without it only a head is trained.
    `lora` trains adapters at its linear layers in place of all its weights.
    `joint` trains it together with an MLP that reads the LLM scores of the same text, which makes
    one more source, "joint".
    """

    encoder: str = "minilm"
    fine_tune: bool = False
    joint: bool = False
    folds: int = Field(default=5, ge=2, le=20)
    c: float | Literal["auto"] = "auto"
    batch_size: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=256, ge=8)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    lora: LoRAConfig | None = None

    @model_validator(mode="after")
    def _transformer(self) -> MLConfig:
        if self.fine_tune and self.encoder in ("tfidf", "none"):
            raise ValueError(
                f"encoder {self.encoder} cannot be fine-tuned: name a transformer (minilm, a "
                "folder or a hub id), or set fine_tune: false"
            )
        if self.joint and not self.fine_tune:
            raise ValueError(
                "joint trains the transformer together with the LLM scores: set fine_tune: true "
                "too, or joint: false"
            )
        if self.lora is not None and not self.fine_tune:
            raise ValueError("lora says how a transformer is fine-tuned: set fine_tune: true too")
        return self


class ExamplesConfig(_Section):
    """Few-shot examples in the prompt, drawn from the training rows only."""

    strategy: Literal["none", "static", "stratified", "knn"] = "none"
    count: int = Field(default=8, ge=1, le=64)


class PromptConfig(_Section):
    """What the LLM is told beside the label names and their descriptions."""

    template: str = "default"
    task: str = ""
    conventions: str = ""
    examples: ExamplesConfig = Field(default_factory=ExamplesConfig)


class LLMConfig(_Section):
    """One LLM source. Several entries are several sources of the fusion."""

    provider: ProviderName
    name: str = Field(default="llm", pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    path: str | None = None
    kind: Literal["probabilities", "logits", "hard"] = "probabilities"
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    output: Literal["auto", "json_schema", "logprobs"] = "auto"
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_output_tokens: int = Field(default=2048, ge=16)
    reasoning_effort: Literal["default", "none", "low", "medium", "high"] = "none"
    texts_per_request: int = Field(default=8, ge=1, le=64)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout_s: float = Field(default=60.0, gt=0)
    max_attempts: int = Field(default=5, ge=1, le=20)
    batch: bool = False
    sdk: Literal["auto", "google-genai", "google-generativeai"] = Field(
        default="auto", description="Which of Google's packages provider gemini goes through"
    )

    @model_validator(mode="after")
    def _needs(self) -> LLMConfig:
        if self.provider == "recorded" and not self.path:
            raise ValueError(
                "provider recorded reads scores from a file: set path to a CSV with a column per "
                "label and an id or text column"
            )
        if self.provider == "compatible" and not self.base_url:
            raise ValueError("provider compatible needs base_url, e.g. http://localhost:8000/v1")
        return self


class BudgetConfig(_Section):
    """Money limits in US dollars. A limit that is set is never exceeded."""

    run_usd: float | None = Field(default=None, ge=0)
    month_usd: float | None = Field(default=None, ge=0)
    when_spent: Literal["continue", "stop"] = "continue"


class PriceConfig(_Section):
    """Own prices for a model, US dollars per million tokens."""

    input_per_million: float = Field(ge=0)
    output_per_million: float = Field(ge=0)
    cached_input_per_million: float | None = Field(default=None, ge=0)


class CostConfig(_Section):
    """Budget and price overrides (keyed by model)."""

    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    prices: dict[str, PriceConfig] = Field(default_factory=dict)


class CacheConfig(_Section):
    """Where LLM answers are kept so that nothing is paid twice."""

    backend: Literal["disk", "memory", "redis", "none"] = "disk"
    url: str | None = None
    max_gigabytes: float = Field(default=2.0, gt=0)


class FusionConfig(_Section):
    """How the sources are combined.

    `method`: "auto" (guarded choice), the name of a combiner (log_pool, class_pool, matrix_pool,
    residual, weighted, class_routing, vote, stack, mlp; see docs/method.md), or that of a source to
    use it alone. `standard_errors`: how many are taken off a combiner's gain before it counts (more
    on few labels, see labelfusion.fusion.choice).
    `mlp_hidden`, `mlp_dropout`, `mlp_seeds` (how many are averaged) and `source_dropout`
    (residual only) shape the networks of residual and mlp.
    """

    method: str = "auto"
    calibration: CalibrationName = "auto"
    standard_errors: float = Field(default=1.0, ge=0)
    cv_folds: int = Field(default=5, ge=2, le=20)
    cv_repeats: int = Field(default=4, ge=1, le=50)
    mlp_hidden: tuple[PositiveInt, ...] = Field(default=(64, 32), max_length=4)
    mlp_dropout: float = Field(default=0.1, ge=0, lt=1)
    mlp_seeds: int = Field(default=5, ge=1, le=20)
    source_dropout: float = Field(default=0.3, ge=0, lt=1)


class EvaluationConfig(_Section):
    """How the test split is read."""

    bootstrap_draws: int = Field(default=2000, ge=100)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class RoutingConfig(_Section):
    """Which texts the LLM sources are asked about once the run is trained.

    `policy`: "always", "never", "margin" (as few as keep accuracy within `max_accuracy_loss` of
    full fusion) or "budget" (as many as `usd_per_1000` or `share` allows). `certified`: margin
    promises its loss with confidence 1 - `alpha`, or asks about every text. `usd_per_text` and
    `seconds_per_text`: what asking all LLM sources about one text costs.
    """

    policy: RoutingName = "always"
    max_accuracy_loss: float = Field(default=0.003, ge=0, le=1)
    usd_per_1000: float | None = Field(default=None, ge=0)
    share: float | None = Field(default=None, ge=0, le=1)
    certified: bool = False
    alpha: float = Field(default=0.1, gt=0, lt=1)
    usd_per_text: float | None = Field(default=None, ge=0)
    seconds_per_text: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _limited(self) -> RoutingConfig:
        if self.policy == "budget" and self.usd_per_1000 is None and self.share is None:
            raise ValueError("policy budget needs a limit: set usd_per_1000 or share")
        if self.policy == "budget" and self.usd_per_1000 is not None and self.usd_per_text is None:
            raise ValueError("usd_per_1000 needs the price of a text: set usd_per_text")
        return self


class RunConfig(_Section):
    """Everything a run needs. See `from_dict`, `load` and `to_yaml`."""

    version: int = SCHEMA_VERSION
    name: str = Field(default="", description="Shown in lists; the data's name if empty")
    seed: int = Field(default=0, ge=0)
    data: DataConfig = Field(default_factory=DataConfig)
    ml: MLConfig = Field(default_factory=MLConfig)
    llm: list[LLMConfig] = Field(default_factory=list)
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    costs: CostConfig = Field(default_factory=CostConfig)
    cache: CacheConfig = Field(default_factory=CacheConfig)
    routing: RoutingConfig = Field(default_factory=RoutingConfig)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        names = self.source_names
        if len(set(names)) != len(names):
            raise ValueError(
                f"sources need different names, found {', '.join(names)}: set llm.name"
            )
        if not names:
            raise ValueError("there is no source: set ml.encoder or add an llm entry")
        if self.ml.joint and not self.llm:
            raise ValueError(
                "ml.joint reads LLM scores, and there is no LLM source: add an llm entry, or set "
                "ml.joint: false"
            )
        if len(names) > 4:
            raise ValueError(
                f"at most 4 sources can be fused, found {len(names)} ({', '.join(names)}): remove "
                f"an llm entry{', or set ml.joint: false' if self.ml.joint else ''}"
            )
        if self.ml.encoder == "none" and self.routing.policy != "always":
            raise ValueError(
                f"routing.policy {self.routing.policy} goes by the encoder's margin: set ml.encoder"
            )
        if self.version > SCHEMA_VERSION:
            raise ValueError(
                f"version {self.version} is newer than this LabelFusion reads ({SCHEMA_VERSION}); "
                "upgrade labelfusion"
            )
        return self

    @property
    def source_names(self) -> list[str]:
        """The sources of the fusion, the encoder ("ml") first."""
        return (["ml"] if self.ml.encoder != "none" else []) + self.dear_source_names

    @property
    def dear_source_names(self) -> list[str]:
        """The sources that say nothing of a text before an LLM is asked about it."""
        return self.llm_names + (["joint"] if self.ml.joint else [])

    @property
    def llm_names(self) -> list[str]:
        """The names of the LLM sources."""
        return [entry.name for entry in self.llm]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Validate a nested dict, or a flat one such as ``{"llm_provider": "deepseek"}``.

        Raises ConfigError that names the key, what was expected and, for a misspelt key, the
        nearest one that exists.
        """
        try:
            return cls.model_validate(expand_flat(values))
        except ValidationError as error:
            raise config_error(error, cls) from None

    @classmethod
    def load(cls, path: str | Path) -> RunConfig:
        """Read YAML or JSON. Relative paths in it are relative to the file. Raises ConfigError."""
        path = Path(path)
        config = cls.from_dict(read_mapping(path))
        return config.anchored(path.resolve().parent)

    def anchored(self, folder: Path) -> RunConfig:
        """A copy whose file paths are absolute, relative ones being taken from `folder`."""
        copy = self.model_copy(deep=True)
        if copy.data.path:
            copy.data.path = str((folder / Path(copy.data.path).expanduser()).resolve())
        for entry in copy.llm:
            if entry.path:
                entry.path = str((folder / Path(entry.path).expanduser()).resolve())
            if entry.prompt.template != "default":
                template = folder / Path(entry.prompt.template).expanduser()
                entry.prompt.template = str(template.resolve())
        return copy

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready nested dict; `from_dict` of it gives an equal config."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """YAML text; `load` of it gives an equal config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def with_overrides(self, assignments: list[str]) -> RunConfig:
        """Apply ``section.key=value`` assignments (values are YAML). Raises ConfigError."""
        return self.updated(dict(parse_assignment(assignment) for assignment in assignments))

    def updated(self, settings: Mapping[str, Any]) -> RunConfig:
        """A copy with settings changed by dotted key, e.g. ``llm.0.model``. Raises ConfigError."""
        values = self.to_dict()
        for key, value in settings.items():
            assign(values, key, value)
        return self.from_dict(values)
