"""Finding manifests in directories, and following what becomes of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from ose.registry.manifest import Change, find_manifests, follow

PATIENCE = 20
NEVER = 3600.0


def put(path: Path, text: str = "kind: Plugin\n") -> Path:
    """Writes a file, with the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_manifests_are_found_below_directories(tmp_path: Path) -> None:
    """Of each of the three names; others, hidden directories and others' code are passed over."""
    wanted = [
        put(tmp_path / "a" / "plugin.yaml"),
        put(tmp_path / "b" / "c" / "plugin.yml"),
        put(tmp_path / "plugin.json"),
    ]
    for name in (".git", "node_modules", "vendor", "site-packages", "__pycache__"):
        put(tmp_path / name / "x" / "plugin.yaml")
    put(tmp_path / "venv" / "pyvenv.cfg")
    put(tmp_path / "venv" / "plugin.yaml")
    put(tmp_path / "other.yaml")
    found = find_manifests([tmp_path, tmp_path / "a"])
    assert sorted(found.paths) == sorted(wanted)
    assert not found.problems


def test_a_root_is_looked_at_whatever_it_is(tmp_path: Path) -> None:
    """A file of any name, and a hidden directory; one that is not there is a problem."""
    file = put(tmp_path / "my.yaml")
    hidden = put(tmp_path / ".hidden" / "plugin.yaml")
    found = find_manifests([file, tmp_path / ".hidden", tmp_path / "gone"])
    assert found.paths == [file, hidden]
    assert [problem.problem for problem in found.problems] == ["there is no such file"]


def test_links_in_circles_end(tmp_path: Path) -> None:
    """Every directory and file is looked at once, over whatever link."""
    file = put(tmp_path / "a" / "plugin.yaml")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert find_manifests([tmp_path]).paths == [file]


def test_one_of_several_in_a_directory_counts(tmp_path: Path) -> None:
    """And the others are told."""
    first = put(tmp_path / "plugin.yaml")
    put(tmp_path / "plugin.json")
    found = find_manifests([tmp_path])
    assert found.paths == [first]
    assert "it is left out: plugin.yaml stands beside it" in str(found.problems[0])


def test_searching_is_bounded(tmp_path: Path) -> None:
    """In depth, in files and in directories; what is left out is told."""
    for n in range(5):
        put(tmp_path / f"p{n}" / "plugin.yaml")
    put(tmp_path.joinpath(*"abcdefghij") / "plugin.yaml")
    assert len(find_manifests([tmp_path]).paths) == 5
    assert len(find_manifests([tmp_path], max_depth=20).paths) == 6
    few = find_manifests([tmp_path], max_files=2)
    assert (len(few.paths), len(few.problems)) == (2, 3)
    [problem] = find_manifests([tmp_path], max_directories=2).problems
    assert "more than 2 directories" in str(problem)


async def after(changes: AsyncIterator[Sequence[Change]]) -> set[tuple[str, bool]]:
    """The next changes: the names of the files' directories, and whether they were removed."""
    found = await asyncio.wait_for(anext(changes), PATIENCE)
    return {(change.path.parent.name, change.removed) for change in found}


@pytest.mark.asyncio
async def test_changes_are_followed(tmp_path: Path) -> None:
    """What is there comes first; then what is new, changed, moved or gone, as the system tells."""
    put(tmp_path / "a" / "plugin.yaml")
    async with aclosing(follow([tmp_path], interval=NEVER)) as changes:
        assert await after(changes) == {("a", False)}
        put(tmp_path / "a" / "plugin.yaml", "kind: Other\n# longer\n")
        assert await after(changes) == {("a", False)}
        (tmp_path / "a").rename(tmp_path / "b")
        assert await after(changes) == {("a", True), ("b", False)}
        (tmp_path / "b" / "plugin.yaml").unlink()
        assert await after(changes) == {("b", True)}


@pytest.mark.asyncio
async def test_a_file_that_is_replaced_is_followed(tmp_path: Path) -> None:
    """As editors do it: another file is moved to its place."""
    file = put(tmp_path / "p" / "my.yaml")
    async with aclosing(follow([file], interval=NEVER)) as changes:
        assert await after(changes) == {("p", False)}
        new = put(tmp_path / "p" / "my.yaml~", "kind: Other\n")
        os.replace(new, file)  # noqa: PTH105 - what an editor does
        assert await after(changes) == {("p", False)}


@pytest.mark.asyncio
async def test_a_root_may_come_later(tmp_path: Path) -> None:
    """The first answer is empty then; looking again finds it, and follows it."""
    root = tmp_path / "later"
    async with aclosing(follow([root], interval=0.05)) as changes:
        assert await after(changes) == set()
        put(root / "a" / "plugin.yaml")
        assert await after(changes) == {("a", False)}
        (root / "a" / "plugin.yaml").unlink()
        assert await after(changes) == {("a", True)}


@pytest.mark.asyncio
async def test_nothing_is_left_running(tmp_path: Path) -> None:
    """Closing ends the tasks that watch."""
    before = asyncio.all_tasks()
    async with aclosing(follow([tmp_path], interval=NEVER)) as changes:
        await after(changes)
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before
