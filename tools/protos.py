"""Makes what follows from the protos: `python tools/protos.py deps|generate|check`.

`deps` lays out the googleapis definitions that the protos import, from the installed
googleapis-common-protos package, where buf and protoc look for them. `generate` writes the code of
every client: Python messages, stubs and their types, and `comments.json`: what the protos say about
each thing, which the messages do not keep; Go messages and stubs; TypeScript messages. `check`
fails, naming the files, if what is committed is not what `generate` writes.

All plugins are local and pinned. A language whose tools are not on this machine is left out, in one
line, or fails if `REQUIRE_ALL=1`.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
DEPS = ROOT / "build" / "proto-deps"
CLIENTS = ROOT / "clients"
PACKAGE = Path("ose", "registry", "v1")
COMMENTS = "comments.json"
NEEDED = ("google/api/annotations.proto", "google/api/client.proto",
          "google/api/field_behavior.proto", "google/api/http.proto",
          "google/api/launch_stage.proto", "google/rpc/error_details.proto",
          "google/rpc/status.proto")  # fmt: skip


def lay_out_deps() -> None:
    """Copies the needed definitions from the installed package to `build/proto-deps`."""
    installed = {str(f): f for f in files("googleapis-common-protos") or ()}
    for name in NEEDED:
        target = DEPS / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(installed[name].locate()), target)


def generate_python(out: Path) -> None:
    """Writes the generated Python package into the folder `out`."""
    (out / PACKAGE).mkdir(parents=True, exist_ok=True)
    # The pip-installed plugins sit beside the interpreter, which need not be on PATH.
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"
        for name in ("mypy", "mypy_grpc")
    ]
    sources = sorted(str(p.relative_to(PROTO)) for p in (PROTO / PACKAGE).glob("*.proto"))
    command = [
        sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{DEPS}", *plugins,
        f"--python_out={out}", f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}", *sources,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    for path in (out / PACKAGE).glob("*_pb2_grpc.py*"):
        # A proto without a service yields an empty stub.
        if not (PROTO / PACKAGE / path.name.replace("_pb2_grpc.pyi", ".proto").replace(
            "_pb2_grpc.py", ".proto")).read_text().count("\nservice "):  # fmt: skip
            path.unlink()
    (out / PACKAGE / COMMENTS).write_text(comments(sources), encoding="utf-8")


def comments(sources: list[str]) -> str:
    """The comment of every service, method, message, field, enum and value, by full name, as JSON.

    A line break inside a paragraph is a space.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "set")
        command = [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{DEPS}",
            "--include_source_info", f"--descriptor_set_out={target}", *sources,
        ]  # fmt: skip
        subprocess.run(command, check=True)
        files = FileDescriptorSet.FromString(target.read_bytes()).file
    found = {
        _named(file, location.path): _paragraphs(location.leading_comments)
        for file in files
        for location in file.source_code_info.location
        if location.leading_comments
    }
    found.pop("", None)
    return json.dumps(dict(sorted(found.items())), indent=0, ensure_ascii=False) + "\n"


def _named(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """The full name of what a path in a file leads to; '' if it has none."""
    name, here = file.package, file
    for step in range(0, len(path) - 1, 2):
        field = here.DESCRIPTOR.fields_by_number[path[step]]
        here = getattr(here, field.name)[path[step + 1]]
        name += f".{here.name}"
    return name if len(path) % 2 == 0 and here is not file else ""


def _paragraphs(comment: str) -> str:
    blocks = textwrap.dedent(comment).strip().split("\n\n")
    return "\n\n".join(
        block if block.startswith(" ") else " ".join(block.split("\n")) for block in blocks
    )


def buf_generates(folder: str, *inputs: str) -> Callable[[Path], None]:
    """Lets buf write a client's code, by the template in its folder below `clients`."""

    def generate(out: Path) -> None:
        buf = Path(sys.executable).parent / "buf"
        template = CLIENTS / folder / "buf.gen.yaml"
        command = [str(buf), "generate", *inputs, "--template", str(template), "-o", str(out)]
        # A flag in the user's own Go settings, such as -mod=vendor, must not reach the plugins.
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "GOFLAGS": ""})

    return generate


@dataclass(frozen=True, slots=True)
class Language:
    """The generated code of one client.

    `root` is what its names are relative to, `generate` writes it below a folder, and `patterns`
    find it there. `tool` is the program that it cannot do without, if that is none of Python's, and
    `hint` how to get it.
    """

    name: str
    root: Path
    generate: Callable[[Path], None]
    patterns: tuple[str, ...]
    tool: str = ""
    hint: str = ""

    @property
    def is_possible(self) -> bool:
        """Whether its tools are on this machine."""
        return not self.tool or shutil.which(self.tool) is not None

    def files(self, root: Path) -> set[str]:
        """The names of the generated files below `root`."""
        found = (path for pattern in self.patterns for path in root.glob(pattern))
        return {str(path.relative_to(root)) for path in found if path.is_file()}

    def write(self) -> None:
        """Puts a fresh generation in the place of the one that is there."""
        for name in self.files(self.root):
            (self.root / name).unlink()
        self.generate(self.root)

    def drifted(self) -> list[str]:
        """The names of the files that are not what the protos generate."""
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder)
            self.generate(fresh)
            names = sorted(self.files(fresh) | self.files(self.root))
            _, different, missing = filecmp.cmpfiles(fresh, self.root, names, shallow=False)
        return different + missing


LANGUAGES = (
    Language(
        "Python",
        CLIENTS / "python",
        generate_python,
        (f"{PACKAGE}/*_pb2*", f"{PACKAGE}/{COMMENTS}"),
    ),
    Language(
        "Go",
        CLIENTS / "go",
        buf_generates("go", "proto"),
        ("ose/**/*.pb.go",),
        "go",
        "install Go",
    ),
    Language(
        "TypeScript",
        CLIENTS / "typescript",
        # The definitions that ours import have no package of their own on npm.
        buf_generates("typescript", "."),
        ("src/gen/**/*",),
        str(CLIENTS / "typescript" / "node_modules" / ".bin" / "protoc-gen-es"),
        "install Node.js, then `make client-deps`",
    ),
)


def possible() -> list[Language]:
    """The languages whose tools are here. Exits if one is missing that is required."""
    missing = [language for language in LANGUAGES if not language.is_possible]
    for language in missing:
        print(f"protos: {language.name} is left out: {language.hint}")
    if missing and os.environ.get("REQUIRE_ALL", "0") not in {"", "0"}:
        sys.exit("protos: REQUIRE_ALL is set, so this is a failure")
    return [language for language in LANGUAGES if language.is_possible]


def check() -> int:
    """Compares a fresh generation with the committed one; answers the exit code."""
    drifted = [
        str((language.root / name).relative_to(ROOT))
        for language in possible()
        for name in language.drifted()
    ]
    for name in drifted:
        print(f"{name} is not what the protos generate: run `make generate`")
    return 1 if drifted else 0


def main() -> int:
    """Runs the named step; answers the exit code."""
    match sys.argv[1:]:
        case ["deps"]:
            lay_out_deps()
        case ["generate"]:
            lay_out_deps()
            for language in possible():
                language.write()
        case ["check"]:
            lay_out_deps()
            return check()
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
