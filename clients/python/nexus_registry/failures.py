"""How a command ends: exit codes, and errors as one clear line.

| code | meaning |
|---|---|
| 0 | done |
| 1 | the registry refused or failed, or a server is not serving |
| 2 | the command line or a file is wrong |
| 3 | there is no such entity, relationship or file |
| 4 | the state does not allow it: a conflict, or a precondition that does not hold |
| 5 | the registry cannot be reached, or did not answer in time |
| 130 | interrupted |
| 141 | whoever read the output stopped reading |

With `--output json` an error is a `google.rpc.Status` in JSON on one line of standard error, as the
HTTP API sends it; otherwise it is text.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ose.registry.client import RegistryError

__all__ = [
    "CONFLICT",
    "ERROR",
    "EXIT_CODES_HELP",
    "FILTER_KEY",
    "INTERRUPTED",
    "NOT_FOUND",
    "OUTPUT_CLOSED",
    "SERVER_MISSING",
    "UNAVAILABLE",
    "USAGE",
    "Failure",
    "failure_of",
    "pointed_at",
]

ERROR: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
UNAVAILABLE: Final = 5
INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141

SERVER_MISSING: Final = (
    "the server is not installed here: pip install 'ose-registry[server]' brings it"
)

FILTER_KEY: Final = f"{__name__}.filter"
"""Where a command's context has the filters that were given, among its `meta`.

They are by the field of the request that each is in; "" is the request itself.
"""

EXIT_CODES_HELP: Final = (
    "Exit codes: 0 done; 1 error from the registry; 2 wrong usage; 3 not found; 4 conflict, or a "
    "precondition that does not hold; 5 registry unavailable, or no answer in time; "
    "130 interrupted."
)

_EXIT_OF_STATUS: Final = {
    "NOT_FOUND": NOT_FOUND,
    "ALREADY_EXISTS": CONFLICT,
    "FAILED_PRECONDITION": CONFLICT,
    "ABORTED": CONFLICT,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": UNAVAILABLE,
}
_EXIT_OF_REASON: Final = {"FILTER_INVALID": USAGE}
_STATUS_OF_EXIT: Final = {USAGE: 3, NOT_FOUND: 5, CONFLICT: 9, UNAVAILABLE: 14}
_UNKNOWN_STATUS: Final = 2

# How much of a filter is shown on either side of a mistake.
_SHOWN: Final = 36

_HINTS: Final = {
    "HAS_RELATIONSHIPS": "--cascade",
    "CASCADE_TOO_LARGE": "--allow-large",
    "CHANGE_TOO_LARGE": "--allow-large",
    "COMMIT_UNKNOWN": "retry with the same --idempotency-key",
    "MANIFEST_DIFFERS": "--replace",
    "STILL_REQUIRED": "--force",
}


class Failure(click.ClickException):
    """Ends the program with an exit code and a message; `status` is it as JSON.

    `details` are further lines of text. The message has no full stop and no newline.
    """

    def __init__(
        self,
        message: str,
        exit_code: int = ERROR,
        *,
        details: Sequence[str] = (),
        status: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
        self.details = tuple(details)
        code = _STATUS_OF_EXIT.get(exit_code, _UNKNOWN_STATUS)
        plain = {"code": code, "message": "; ".join([message, *details]), "details": []}
        self.status = dict(status) if status is not None else plain
        self.as_json = False

    def show(self, file: IO[Any] | None = None) -> None:
        """Writes the error to standard error, or to `file`."""
        if self.as_json:
            text = json.dumps(self.status, ensure_ascii=False)
        else:
            text = "\n  ".join([f"Error: {self.message}", *self.details])
        click.echo(text, file=file or sys.stderr)


def failure_of(
    error: BaseException, server: str, filters: Mapping[str, str] = MappingProxyType({})
) -> Failure | None:
    """The failure that an exception of the client library or the system stands for, if it is one.

    `server` is the address that was asked, for the message that it cannot be reached; `filters` are
    those that were sent (see `FILTER_KEY`), to show where one is wrong.
    """
    if isinstance(error, OSError):
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else ERROR
        problem = error.strerror or str(error)
        return Failure(f"{error.filename}: {problem}" if error.filename else problem, code)
    if isinstance(error, ValueError) and type(error).__name__ == "FormError":
        found = [str(violation) for violation in getattr(error, "violations", ())]
        return Failure("a value has the wrong form", USAGE, details=found)
    from ose.registry.client import RegistryError  # a slow import, and only needed when it failed

    if not isinstance(error, RegistryError):
        return None
    failure = _of_registry_error(error, server)
    if error.reason_text == "FILTER_INVALID":
        part = error.metadata.get("field", "").rpartition(".")[0]
        position, text = error.metadata.get("position", ""), filters.get(part) or filters.get("")
        if text and position.isdecimal():
            failure.details = (*failure.details, *pointed_at(text, int(position)))
    return failure


def pointed_at(text: str, position: int) -> tuple[str, str]:
    """The line of a text that has a position (counted from 1), and a mark under it.

    Of a long line, what is around the position.
    """
    from rich.cells import cell_len

    before, after = text[: position - 1], text[position - 1 :]
    before = re.split(r"[\r\n]", before)[-1]
    after = re.split(r"[\r\n]", after, maxsplit=1)[0]
    if len(before) > _SHOWN:
        before = "…" + before[1 - _SHOWN :]
    if len(after) > _SHOWN:
        after = after[: _SHOWN - 1] + "…"
    line = "".join(letter if letter.isprintable() else " " for letter in before + after)
    return line, " " * cell_len(line[: len(before)]) + "^"


def _of_registry_error(error: RegistryError, server: str) -> Failure:
    message = error.message
    if error.code.name == "UNAVAILABLE" and not error.reason_text:
        message = f"cannot reach a registry at {server}: {message}"
    elif error.code.name == "DEADLINE_EXCEEDED" and not error.reason_text:
        message = f"no answer from {server} in time (--timeout)"
    if hint := _HINTS.get(error.reason_text):
        message = f"{message} ({hint})"
    message = " ".join(message.split())
    details = [f"{found.field}: {found.description}" for found in error.field_violations]
    return Failure(
        message,
        _EXIT_OF_REASON.get(error.reason_text) or _EXIT_OF_STATUS.get(error.code.name, ERROR),
        details=[] if details == [message] else details,
        status=_status(error, message),
    )


def _status(error: RegistryError, message: str) -> dict[str, Any]:
    from google.rpc import error_details_pb2, status_pb2

    from ose.registry.jsonform import to_dict

    status = status_pb2.Status(code=error.code.value[0], message=message)
    if error.reason_text:
        info = error_details_pb2.ErrorInfo(
            reason=error.reason_text, domain="registry.ose", metadata=dict(error.metadata)
        )
        status.details.add().Pack(info)
    if error.field_violations:
        bad = error_details_pb2.BadRequest()
        for found in error.field_violations:
            bad.field_violations.add(field=found.field, description=found.description)
        status.details.add().Pack(bad)
    return to_dict(status)
