"""Imports go downward only, and the checker that says so can say no."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.layers import TIERS, client_violations, imports_of, server_violations
from tests.support.tools import ROOT


def test_server_imports_go_downward() -> None:
    """No server module imports one of a higher folder, nor a library that its folder must not."""
    assert server_violations(ROOT / "server") == []


def test_client_imports_the_server_lazily() -> None:
    """The client is usable without the server: only function bodies import it."""
    assert client_violations(ROOT / "clients" / "python") == []


def test_checker_sees_the_real_packages() -> None:
    """The two checks above read files: they are not green because a folder was moved."""
    assert (ROOT / "server" / "hyper_registry" / "model" / "entity.py").is_file()
    assert (ROOT / "clients" / "python" / "nexus_registry").is_dir()


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A made-up server package in which every folder holds one module without imports."""
    package = tmp_path / "hyper_registry"
    for folder in frozenset().union(*TIERS):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").touch()
        (package / folder / "thing.py").touch()
    (package / "__init__.py").write_text("__version__ = '1'\n", encoding="utf-8")
    (package / "app.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("model/thing.py", "import hyper_registry.store"),
        ("model/thing.py", "import hyper_registry.app"),
        ("model/thing.py", "from ..store import thing"),
        ("model/thing.py", "import grpc"),
        ("model/thing.py", "from grpc import aio"),
        ("model/thing.py", "from google.protobuf import struct_pb2"),
        ("model/thing.py", "from ose.registry.v1 import entity_pb2"),
        ("model/thing.py", "import sqlalchemy as sa"),
        ("model/__init__.py", "from hyper_registry.store.thing import x"),
        ("store/thing.py", "from hyper_registry import registry"),
        ("registry/thing.py", "from hyper_registry.query.thing import x"),
        ("registry/thing.py", "def late():\n    from hyper_registry.watch import thing"),
        ("registry/thing.py", "import importlib\nimportlib.import_module('hyper_registry.web')"),
        ("registry/thing.py", "import sqlite3"),
        ("query/thing.py", "if True:\n    import hyper_registry.watch.thing"),
        ("watch/thing.py", "from hyper_registry.health.thing import x"),
        ("health/thing.py", "from hyper_registry import plugins"),
        ("plugins/thing.py", "from hyper_registry.services.thing import x"),
        ("services/thing.py", "import hyper_registry.app"),
        ("services/thing.py", "from hyper_registry.app import App"),
        ("services/thing.py", "from sqlalchemy import select"),
        ("app.py", "import sqlite3"),
        ("__init__.py", "from hyper_registry.model import thing"),
    ],
)
def test_checker_flags_a_bad_import(server: Path, module: str, line: str) -> None:
    """Each of these breaks a rule and is reported once, with its file and line."""
    (server / "hyper_registry" / module).write_text(f"{line}\n", encoding="utf-8")
    [violation] = server_violations(server)
    assert violation.startswith(f"hyper_registry/{module}:{len(line.splitlines())}: ")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("model/thing.py", "from dataclasses import dataclass"),
        ("model/thing.py", "from hyper_registry import __version__"),
        ("store/thing.py", "import sqlite3, sqlalchemy\nfrom hyper_registry.model import thing"),
        ("registry/thing.py", "from ..store import thing\nimport hyper_registry.model.thing"),
        ("services/thing.py", "import grpc\nfrom hyper_registry.web import thing"),
        ("transcoding/thing.py", "from hyper_registry.services import thing"),
        ("app.py", "import hyper_registry.services.thing\nfrom hyper_registry.store import thing"),
    ],
)
def test_checker_lets_a_good_import_pass(server: Path, module: str, line: str) -> None:
    """Downward, sideways in one tier, and libraries where they belong: none is reported."""
    (server / "hyper_registry" / module).write_text(f"{line}\n", encoding="utf-8")
    assert server_violations(server) == []


def test_checker_flags_a_folder_without_a_layer(server: Path) -> None:
    """A new folder must be given its place before it can hold code."""
    (server / "hyper_registry" / "misc").mkdir()
    (server / "hyper_registry" / "misc" / "thing.py").touch()
    assert server_violations(server) == [
        "hyper_registry/misc/thing.py: the folder misc/ has no layer"
    ]


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("import hyper_registry", True),
        ("from hyper_registry.app import App", True),
        ("try:\n    import hyper_registry\nexcept ImportError:\n    pass", True),
        ("class A:\n    import hyper_registry", True),
        ("def serve():\n    from hyper_registry.app import App", False),
        ("async def serve():\n    import hyper_registry", False),
        ("import hyper_registry_tools", False),
    ],
)
def test_checker_tells_lazy_client_imports(tmp_path: Path, source: str, bad: bool) -> None:
    """An import of the server counts unless a function body holds it."""
    (tmp_path / "nexus_registry").mkdir()
    (tmp_path / "nexus_registry" / "cli.py").write_text(source, encoding="utf-8")
    assert bool(client_violations(tmp_path)) is bad


def test_relative_imports_are_resolved() -> None:
    """`.` is the module's own package, each further dot its parent."""
    source = "from . import a\nfrom .b import c\nfrom .. import d\nfrom ..e.f import g\n"
    assert [found.module for found in imports_of(source, "top.sub")] == [
        "top.sub.a",
        "top.sub.b.c",
        "top.d",
        "top.e.f.g",
    ]
