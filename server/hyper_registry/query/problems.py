"""What is wrong with a request: all of it at once, so that nobody mends it field by field."""

from __future__ import annotations

from types import TracebackType

from hyper_registry.model.errors import InvalidArgument


class Problems:
    """What the parts of a request are refused for: `with` it around each part, then `check`."""

    def __init__(self) -> None:
        self._errors: list[InvalidArgument] = []

    def add(self, field: str, description: str) -> None:
        """A field that is wrong, and what was expected of it."""
        self._errors.append(InvalidArgument.of(field, description))

    def check(self) -> None:
        """Raises InvalidArgument with every field; an error that is the only one, as it is."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise InvalidArgument([v for error in self._errors for v in error.violations])

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        """Keeps the InvalidArgument that ended the block, if one did."""
        if not isinstance(error, InvalidArgument):
            return False
        self._errors.append(error)
        return True


def parse_limit(limit: int, default: int, most: int = 1000) -> int:
    """How many results a request asks for; 0 is the default. Raises InvalidArgument."""
    if limit and not 1 <= limit <= most:
        raise InvalidArgument.of("limit", f"1 to {most:,}, got {limit}")
    return limit or default
