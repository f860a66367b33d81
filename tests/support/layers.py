"""Which module may import which: reads the imports of source files, without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: The folders of the server, highest first. Those of one tier may import each other; the modules
#: beside the folders (`app.py`, `config.py`, `__main__.py`) stand above all of them.
TIERS: tuple[frozenset[str], ...] = (
    frozenset({"interceptors", "services", "transcoding", "web"}),
    frozenset({"plugins"}),
    frozenset({"health"}),
    frozenset({"watch"}),
    frozenset({"query"}),
    frozenset({"registry"}),
    frozenset({"store"}),
    frozenset({"model"}),
)

#: What the model must do without: transport, database and wire format, the generated code with it.
MODEL_FORBIDS = (
    "google",
    "grpc",
    "grpc_health",
    "grpc_reflection",
    "grpc_status",
    "ose",
    "psycopg",
    "sqlalchemy",
    "sqlite3",
)

#: What only the store may know.
STORE_ONLY = ("psycopg", "sqlalchemy", "sqlite3")

_TOP = -1
_RANK = {folder: rank for rank, tier in enumerate(TIERS) for folder in tier}


@dataclass(frozen=True, order=True)
class Import:
    """One imported module: its full name, the line, and whether a function body holds it."""

    line: int
    module: str
    lazy: bool


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Reads every import in `source`, a module of `package`, the ones in functions included.

    A `from a import b` yields `a.b`, for `b` may be a module. `import_module("a")` and
    `__import__("a")` count where the name is a literal.
    """
    yield from _imports_in(ast.parse(source), package, lazy=False)


def _imports_in(node: ast.AST, package: str, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(child.lineno, alias.name, lazy)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = module or ""
                if level:
                    parents = package.split(".")[: len(package.split(".")) - level + 1]
                    base = ".".join([*parents, *filter(None, [module])])
                for alias in names:
                    yield Import(child.lineno, f"{base}.{alias.name}", lazy)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(child.lineno, name, lazy)
        in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports_in(child, package, lazy=lazy or in_function)


def _is_below(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of the packages or lies in one of them."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def server_violations(root: Path) -> list[str]:
    """Checks the package `hyper_registry` in `root`; answers one line for each bad import."""
    violations = []
    base = root / "hyper_registry"
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).parts
        folder = parts[0] if len(parts) > 1 else ""
        if folder and folder not in _RANK:
            violations.append(f"{path.relative_to(root)}: the folder {folder}/ has no layer")
            continue
        is_package_root = parts == ("__init__.py",)
        rank = len(TIERS) if is_package_root else _RANK.get(folder, _TOP)
        for found in _distinct(path, root):
            where = f"{path.relative_to(root)}:{found.line}"
            target = _server_target(found.module, base)
            if target is not None and _RANK.get(target, _TOP) < rank:
                violations.append(f"{where}: imports {found.module}, which is above it")
            if folder == "model" and _is_below(found.module, MODEL_FORBIDS):
                violations.append(f"{where}: the model imports {found.module}")
            elif folder != "store" and _is_below(found.module, STORE_ONLY):
                violations.append(f"{where}: imports {found.module}, which only store/ may")
    return violations


def _server_target(module: str, base: Path) -> str | None:
    """Names the folder or top module that an import reaches; None if it is none of the server's."""
    first, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    # What is neither a folder nor a module is a name of the package itself, such as __version__.
    is_module = bool(name) and ((base / name).is_dir() or (base / f"{name}.py").is_file())
    return name if first == "hyper_registry" and is_module else None


def client_violations(root: Path) -> list[str]:
    """Checks the client packages in `root`: the server is imported inside functions only."""
    return [
        f"{path.relative_to(root)}:{found.line}: imports {found.module} outside a function"
        for path in sorted(root.rglob("*.py"))
        for found in _distinct(path, root)
        if not found.lazy and _is_below(found.module, ["hyper_registry"])
    ]


def _distinct(path: Path, root: Path) -> list[Import]:
    """Reads the imports of a file below `root`, each once, in the order of lines."""
    package = ".".join(path.relative_to(root).parent.parts)
    return sorted(set(imports_of(path.read_text(encoding="utf-8"), package)))
