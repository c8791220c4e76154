"""Imports point one way, as docs/architecture.md says, and heavy packages wait for their use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "labelfusion"
UI_WITH_STREAMLIT = (
    "state",
    "widgets",
    "llm_form",
    "llm_panels",
    "label_desk",
    "label_panels",
    "review_panels",
    "job_panel",
    "result_panels",
)
MAY_IMPORT_STREAMLIT = (
    "app.py",
    "pages/",
    *(f"labelfusion/ui/{name}.py" for name in UI_WITH_STREAMLIT),
)
# A scikit-learn estimator inherits from scikit-learn's classes; it is loaded when it is asked for.
MAY_IMPORT_SKLEARN = "labelfusion.estimator"
HEAVY = ("torch", "transformers", "sklearn", "streamlit", "openai", "anthropic", "google.genai")


def _layers() -> dict[str, int]:
    """The layer of each part, read from the architecture's own sentence."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    match = re.search(r"Imports point one way: (.*?)\.\s", text, re.DOTALL)
    assert match, "docs/architecture.md no longer says how imports point"
    groups = re.findall(r"`([^`]*)`", match[1])
    return {part: i for i, group in enumerate(groups) for part in re.split(r",\s*", group)}


def _sources() -> list[Path]:
    pages = [*ROOT.glob("app.py"), *ROOT.glob("pages/*.py")]
    return sorted([*PACKAGE.rglob("*.py"), *pages])


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of every import that runs, those inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(node) for block in _type_checking_blocks(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _type_checking_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from node.body


def _part(path: Path) -> str:
    """errors, data, fusion, …; app.py counts as a page."""
    if not path.is_relative_to(PACKAGE):
        return "pages"
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


def _edges() -> Iterator[tuple[Path, str, str]]:
    """(file, its part, part it imports), without imports within a part."""
    parts = {_part(path) for path in PACKAGE.rglob("*.py")}
    for path in _sources():
        for name in _imports(path):
            # `from labelfusion import RunConfig` asks the package itself, which imports lazily.
            package, target = [*name.split("."), ""][:2]
            if package == "labelfusion" and target in parts - {_part(path)}:
                yield path, _part(path), target


def test_every_part_has_a_layer():
    parts = {_part(path) for path in _sources()} - {"__init__"}
    assert parts - _layers().keys() == set()


def test_imports_point_one_way():
    layers = _layers()
    upward = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path, part, target in _edges()
        if part != "__init__" and layers[part] < layers[target]
    ]
    assert upward == []


def test_no_parts_import_each_other():
    graph: dict[str, set[str]] = {}
    for _, part, target in _edges():
        graph.setdefault(part, set()).add(target)
    order = list(TopologicalSorter(graph).static_order())
    assert {"errors", "types", "config"} <= set(order)


def test_streamlit_stays_in_its_places():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in _sources()
        if any(name.split(".")[0] == "streamlit" for name in _imports(path))
    }
    assert {user for user in users if not user.startswith(MAY_IMPORT_STREAMLIT)} == set()


def _modules() -> list[str]:
    """Every module of the package that can be imported without running something."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if path.name != "__main__.py" and not name.startswith(MAY_IMPORT_STREAMLIT):
            found.append(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    # Last, so that whatever else loads scikit-learn is seen first.
    return sorted(found, key=lambda name: (name == MAY_IMPORT_SKLEARN, name))


FIRST_TO_LOAD = """
import importlib, sys
modules, heavy = sys.argv[1].split(), sys.argv[2].split()
loaded = {}
for module in modules:
    importlib.import_module(module)
    for package in heavy:
        if package in sys.modules:
            loaded.setdefault(package, module)
print(loaded)
"""


@pytest.mark.parametrize("which", ["the package", "every module"])
def test_importing_loads_nothing_heavy(which):
    modules = ["labelfusion"] if which == "the package" else _modules()
    command = [sys.executable, "-c", FIRST_TO_LOAD, " ".join(modules), " ".join(HEAVY)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = ast.literal_eval(run.stdout)
    assert loaded.pop("sklearn", MAY_IMPORT_SKLEARN) == MAY_IMPORT_SKLEARN
    assert loaded == {}
