"""A missing tool is one clear skip, or one clear failure where nothing may be missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tools

Require = Callable[[str], Path]


def test_require_answers_the_path(
    require: Require, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program on `PATH` is found, and one in the project's own folders comes before it."""
    for folder in ("own", "path"):
        program = tmp_path / folder / "some-program"
        program.parent.mkdir()
        program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert require("some-program") == tmp_path / "path" / "some-program"
    monkeypatch.setattr(tools, "TOOL_FOLDERS", (tmp_path / "own",))
    assert require("some-program") == tmp_path / "own" / "some-program"


@pytest.mark.parametrize("value", [None, "", "0"])
def test_missing_tool_skips(
    require: Require, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Without `REQUIRE_ALL` the test is skipped, in one line that says how to get the tool."""
    monkeypatch.setattr(tools, "find_tool", lambda name: None)
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    if value is not None:
        monkeypatch.setenv("REQUIRE_ALL", value)
    with pytest.raises(pytest.skip.Exception, match=r"^needs grpcurl: make tools$"):
        require("grpcurl")


def test_missing_tool_fails_where_all_is_required(
    require: Require, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `REQUIRE_ALL=1` the same test fails: a CI that lacks a tool is not green."""
    monkeypatch.setattr(tools, "find_tool", lambda name: None)
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match=r"^needs grpcurl: make tools "):
        require("grpcurl")
