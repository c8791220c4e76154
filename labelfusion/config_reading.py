"""How settings are written: files, flat keywords, `--set section.key=value`; and what is wrong.

Knows the forms that a config may come in, and makes one nested mapping of each. Does not know the
settings: `labelfusion.config` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from labelfusion.errors import ConfigError, did_you_mean

# Flat keys of the paper's reference package and of quick use, and where they live here.
FLAT_KEYS: dict[str, tuple[str, ...]] = {
    "data_path": ("data", "path"),
    "text_column": ("data", "text_columns"),
    "text_columns": ("data", "text_columns"),
    "id_column": ("data", "id_column"),
    "label_column": ("data", "label_column"),
    "label_columns": ("data", "label_columns"),
    "label_delimiter": ("data", "label_delimiter"),
    "label_descriptions": ("data", "labels"),
    "multi_label": ("data", "multi_label"),
    "test_size": ("data", "test_size"),
    "encoder": ("ml", "encoder"),
    "ml_model": ("ml", "encoder"),
    "fusion_method": ("fusion", "method"),
    "calibration": ("fusion", "calibration"),
    "budget_usd": ("costs", "budget", "run_usd"),
    "bootstrap_draws": ("evaluation", "bootstrap_draws"),
}
FLAT_LLM_KEYS = {
    "llm_provider": "provider",
    "llm_model": "model",
    "llm_base_url": "base_url",
    "llm_scores": "path",
    "llm_kind": "kind",
}


def expand_flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested form of a config that may use the flat keys. Raises ConfigError on a clash."""
    nested = {key: value for key, value in values.items() if key not in FLAT_KEYS}
    for key in FLAT_KEYS.keys() & values.keys():
        _place(nested, FLAT_KEYS[key], values[key], key)
    flat_llm = {FLAT_LLM_KEYS[key]: nested.pop(key) for key in FLAT_LLM_KEYS if key in nested}
    flat_llm = {key: value for key, value in flat_llm.items() if value is not None}
    if flat_llm:
        if nested.get("llm"):
            raise ConfigError("llm_* keys and an llm list were both given", remedy="Use one form")
        nested["llm"] = [{"provider": "recorded" if "path" in flat_llm else None} | flat_llm]
    return nested


def _place(nested: dict[str, Any], path: tuple[str, ...], value: Any, key: str) -> None:
    here = nested
    for part in path[:-1]:
        section = here.get(part)
        if section is not None and not isinstance(section, dict):
            raise ConfigError(
                f"{key!r} cannot be set", where=part, expected="a section of settings"
            )
        here[part] = dict(section or {})
        here = here[part]
    here[path[-1]] = value


def read_mapping(path: Path) -> Mapping[str, Any]:
    """The settings in a YAML or JSON file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "The config file cannot be read",
            where=str(path),
            found=error.strerror or str(error),
            remedy="Write one with: labelfusion create-config PATH --data FILE",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            "The config file is not UTF-8 text", where=str(path), found=f"byte {error.start}"
        ) from None
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            "The config file cannot be parsed", where=str(path), found=" ".join(str(error).split())
        ) from None
    if not isinstance(values, dict):
        raise ConfigError("The config is not a mapping", where=str(path), expected="key: value")
    return values


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Key and value of "section.key=value". Raises ConfigError."""
    key, separator, raw = assignment.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            "An override is malformed", expected="section.key=value", found=assignment
        )
    try:
        return key.strip(), yaml.safe_load(raw)
    except yaml.YAMLError:
        return key.strip(), raw


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted key in nested settings. Raises ConfigError where there is no such section."""
    here: Any = values
    *parents, last = key.split(".")
    for part in parents:
        here = _step(here, part, key)
    if isinstance(here, list):
        _step(here, last, key)
        here[int(last)] = value
    else:
        here[last] = value


def _step(here: Any, part: str, key: str) -> Any:
    if isinstance(here, dict) and isinstance(here.get(part), dict | list):
        return here[part]
    if isinstance(here, list) and part.isdigit() and int(part) < len(here):
        return here[int(part)]
    raise ConfigError(
        f"There is no setting {key!r}",
        found=part,
        remedy=did_you_mean(part, list(here) if isinstance(here, dict) else []),
    )


def config_error(error: ValidationError, whole: type[BaseModel]) -> ConfigError:
    """What pydantic found wrong with the first setting, in the words of the `whole` config."""
    first = error.errors(include_url=False)[0]
    location = ".".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    suffix = f" ({more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        known = _known_keys(first["loc"][:-1], whole)
        return ConfigError(
            f"Unknown setting {key!r}{suffix}",
            where=f"config {location}",
            remedy=did_you_mean(key, known),
        )
    found = first.get("input")
    # A whole section as "found" says nothing; a key must never be echoed, so only scalars are.
    shown = repr(found) if isinstance(found, str | int | float | bool) else None
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(
        message[:1].upper() + message[1:] + suffix,
        where=f"config {location}" if location else "config",
        found=shown,
    )


def _known_keys(location: tuple[int | str, ...], whole: type[BaseModel]) -> list[str]:
    model: Any = whole
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        nested = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
        model = next((a for a in nested if issubclass(a, BaseModel)), None)
        if model is None:
            return []
    flat = [*FLAT_KEYS, *FLAT_LLM_KEYS] if model is whole else []
    return [*model.model_fields, *flat]
