"""Makes what follows from the protos: `python tools/protos.py deps|generate|check`.

`deps` lays out the googleapis definitions that the protos import, from the installed
googleapis-common-protos package, where buf and protoc look for them. `generate` writes the Python
messages, stubs and their types. `check` fails, naming the files, if what is committed is not what
`generate` writes.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
DEPS = ROOT / "build" / "proto-deps"
PYTHON_OUT = ROOT / "clients" / "python"
PACKAGE = Path("ose", "registry", "v1")
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


def generated_files(root: Path) -> set[str]:
    """The names of the generated files in the package below `root`."""
    return {p.name for p in (root / PACKAGE).glob("*_pb2*")}


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
