"""What `make generate` and `make drift` make of generated code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.protos import Language, possible


def language(root: Path, tool: str = "") -> Language:
    """One whose generated code is two files."""

    def generate(out: Path) -> None:
        (out / "a.pb.go").write_text("a")
        (out / "b.pb.go").write_text("b")

    return Language("Test", root, generate, ("*.pb.go",), tool, "install it")


def test_drift_is_named(tmp_path: Path) -> None:
    """What is changed, missing or left over is; what is written by hand is not."""
    one = language(tmp_path)
    one.write()
    (tmp_path / "own.go").write_text("mine")
    assert one.drifted() == []
    (tmp_path / "a.pb.go").write_text("changed")
    (tmp_path / "b.pb.go").unlink()
    (tmp_path / "old.pb.go").write_text("of a proto that is gone")
    assert sorted(one.drifted()) == ["a.pb.go", "b.pb.go", "old.pb.go"]
    one.write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pb.go", "b.pb.go", "own.go"]


def test_missing_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A language whose tool is missing is left out in one line, or fails where all is required."""
    here, missing = language(tmp_path), language(tmp_path, "no-such-program")
    monkeypatch.setattr("tools.protos.LANGUAGES", (here, missing))
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    assert possible() == [here]
    assert capsys.readouterr().out == "protos: Test is left out: install it\n"
    monkeypatch.setenv("REQUIRE_ALL", "1")
    with pytest.raises(SystemExit):
        possible()
