"""What a machine has of what plugins need of it, told of a machine that is made up for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ose.registry.versions import (
    FindingStatus,
    RequirementInvalid,
    SystemRequirement,
    check_system,
)

Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts programs on a PATH that has no others; each notes that it was run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)

    def put(name: str, script: str) -> None:
        file = folder / name
        file.write_text(f"#!/bin/sh\n: > '{folder}/{name}.ran'\n{script}\n")
        file.chmod(0o755)

    return put


def found(text: str) -> tuple[str, str]:
    """How a requirement stands, and the version that was found."""
    finding = check_system(SystemRequirement.parse(text))
    assert finding.how
    return finding.status.value, finding.found


@pytest.mark.parametrize(
    ("text", "name", "constraint"),
    [
        ("python3.10", "python", "==3.10.*"),
        ("python3", "python", "==3.*"),
        ("python>=3.10", "python", ">=3.10"),
        ("python==3.10", "python", "==3.10.*"),
        ("cuda-11.8", "cuda", "==11.8.*"),
        ("cuda==11.8", "cuda", "==11.8.*"),
        ("cuda>=11.8,<13", "cuda", ">=11.8,<13"),
        ("gcc-12", "gcc", "==12.*"),
        ("libc6", "libc6", ""),
        ("sqlite3", "sqlite3", ""),
        ("g++", "g++", ""),
        ("x86-64", "x86-64", ""),
        ("node==18.0rc1", "node", "==18.0rc1"),
    ],
)
def test_system_requirements(text: str, name: str, constraint: str) -> None:
    """A version may be part of the name, and means all that begin so; a name may end in digits."""
    read = SystemRequirement.parse(text)
    assert (read.text, read.name, str(read.constraint)) == (text, name, constraint)
    assert str(read) == f"{name}{constraint}"


@pytest.mark.parametrize("text", ["", "python=3", "cuda 11.8 12", "a;b"])
def test_wrong_system_requirements(text: str) -> None:
    """What is none is refused, with what was expected."""
    with pytest.raises(RequirementInvalid, match="expected"):
        SystemRequirement.parse(text)


def test_python(program: Program) -> None:
    """Every interpreter on PATH is asked; one that cannot run does not count."""
    program("python3.10", "exit 127")
    program("python3.11", "echo 3.11.7")
    program("python3", "echo 3.9.2")
    assert found("python3.11") == found("python>=3.10") == ("ok", "3.11.7")
    assert found("python==3.9") == ("ok", "3.9.2")
    assert found("python3.10") == ("wrong version", "3.11.7, 3.9.2")


def test_no_python(program: Program) -> None:
    """Without an interpreter it is missing."""
    assert found("python>=3.10") == ("missing", "")


def test_cuda_toolkit(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toolkit's release counts, as its compiler or its own file tells it."""
    program("nvcc", "echo 'Cuda compilation tools, release 11.8, V11.8.89'")
    assert found("cuda==11.8") == found("cuda-11.8") == ("ok", "11.8")
    assert found("cuda>=12") == ("wrong version", "11.8")
    home = tmp_path / "cuda"
    home.mkdir()
    (home / "version.json").write_text('{"cuda": {"name": "CUDA SDK", "version": "12.2.1"}}')
    monkeypatch.setenv("CUDA_HOME", str(home))
    assert found("cuda==12.2") == ("ok", "12.2.1")


def test_cuda_driver_alone(program: Program) -> None:
    """A driver is no toolkit, so what it could run is told, and no verdict."""
    program("nvidia-smi", "echo '| Driver Version: 535.1   CUDA Version: 12.2 |'")
    finding = check_system(SystemRequirement.parse("cuda>=11.8"))
    assert finding.status is FindingStatus.UNKNOWN
    assert "up to 12.2" in finding.how


def test_packages(program: Program) -> None:
    """What dpkg says is installed counts, by its upstream version; what was removed does not."""
    program(
        "dpkg-query",
        'case "$4" in libc6) echo "installed 2:2.36-9+deb12u4";;'
        ' gone) echo "config-files 1.0";; *) exit 1;; esac',
    )
    assert found("libc6>=2.36") == ("ok", "2.36")
    assert found("libc6>=2.37") == ("wrong version", "2.36")
    assert found("gone") == found("other") == ("missing", "")


def test_pkg_config(program: Program) -> None:
    """pkg-config knows libraries that no package of the name holds."""
    program("pkg-config", '[ "$3" = zlib ] && echo 1.2.13')
    assert found("zlib>=1.2,<2") == ("ok", "1.2.13")


def test_known_program(program: Program) -> None:
    """A program that is known to tell its version and no more is asked."""
    program("git", '[ "$1" = --version ] && echo git version 2.39.5')
    assert found("git>=2.30") == ("ok", "2.39.5")
    program("node", "echo no number")
    assert found("node>=18") == ("unknown", "")


def test_unknown_program_is_never_run(program: Program, tmp_path: Path) -> None:
    """Any other program is only looked for: a manifest cannot make it run."""
    program("launch-missiles", "echo 1.0")
    assert found("launch-missiles") == ("ok", "")
    assert found("launch-missiles>=1") == ("unknown", "")
    assert not (tmp_path / "bin" / "launch-missiles.ran").exists()


def test_series_in_the_name(program: Program) -> None:
    """What is called `gcc-12` on the machine is found under that name too."""
    program("gcc-12", "echo never run")
    assert found("gcc-12") == ("unknown", "")


def test_slow_program(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not answer in time is there, in a version that is not known."""
    monkeypatch.setattr("ose.registry.versions._probe._TIMEOUT_SECONDS", 0.2)
    program("git", "exec /bin/sleep 30")
    assert found("git>=2") == ("unknown", "")
