"""Makes what follows from the protos: `python tools/protos.py deps|generate|check`.

`deps` lays out the googleapis definitions that the protos import, from the installed
googleapis-common-protos package, where buf and protoc look for them. `generate` writes the Python
messages, stubs and their types, and `comments.json`: what the protos say about each thing, which
the messages do not keep. `check` fails, naming the files, if what is committed is not what
`generate` writes.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
DEPS = ROOT / "build" / "proto-deps"
PYTHON_OUT = ROOT / "clients" / "python"
PACKAGE = Path("ose", "registry", "v1")
COMMENTS = "comments.json"
NEEDED = ("google/api/annotations.proto", "google/api/client.proto",
          "google/api/field_behavior.proto", "google/api/http.proto",
          "google/api/launch_stage.proto")  # fmt: skip


def lay_out_deps() -> None:
    """Copies the needed definitions from the installed package to `build/proto-deps`."""
    installed = {str(f): f for f in files("googleapis-common-protos") or ()}
    for name in NEEDED:
        target = DEPS / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(installed[name].locate()), target)


def generate(out: Path) -> None:
    """Writes the generated Python package into the folder `out`."""
    lay_out_deps()
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


def generated_files(root: Path) -> set[str]:
    """The names of the generated files in the package below `root`."""
    folder = root / PACKAGE
    return {p.name for pattern in ("*_pb2*", COMMENTS) for p in folder.glob(pattern)}


def check() -> int:
    """Compares a fresh generation with the committed one; answers the exit code."""
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        names = sorted(generated_files(Path(fresh)) | generated_files(PYTHON_OUT))
        _, different, missing = filecmp.cmpfiles(
            Path(fresh, PACKAGE), PYTHON_OUT / PACKAGE, names, shallow=False
        )
    for name in different + missing:
        print(f"{PACKAGE / name} is not what the protos generate: run `make generate`")
    return 1 if different or missing else 0


def main() -> int:
    """Runs the named step; answers the exit code."""
    match sys.argv[1:]:
        case ["deps"]:
            lay_out_deps()
        case ["generate"]:
            for name in generated_files(PYTHON_OUT):
                (PYTHON_OUT / PACKAGE / name).unlink()
            (PYTHON_OUT / PACKAGE).mkdir(parents=True, exist_ok=True)
            generate(PYTHON_OUT)
        case ["check"]:
            return check()
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
