"""The error tree says exactly what the API's reasons say."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from google.protobuf.json_format import Parse
from google.rpc import code_pb2, error_details_pb2, status_pb2
from structlog.testing import capture_logs

from hyper_registry.interceptors.errors import DOMAIN, code_of, status_of
from hyper_registry.model import errors
from hyper_registry.model.errors import InvalidArgument, RegistryError, Violation
from ose.registry.v1.error_reason_pb2 import ErrorReason
from tests.support.tools import ROOT

PREFIX = "ERROR_REASON_"

#: One example of every error that is raised, as its code raises it.
EXAMPLES: tuple[RegistryError, ...] = (
    RegistryError("internal", request_id="5b2e"),
    InvalidArgument.of("entity.id", "1 to 255 characters"),
    errors.LimitExceeded("mutations", "max_mutations", 1000, 2400),
    errors.FilterInvalid("filter", 17, "expected a value, got nothing"),
    errors.TokenInvalid("page_token", "it is of another question"),
    errors.UnsupportedMedia("content-type", "application/json, got text/plain"),
    errors.EntityNotFound("billing", 42),
    errors.RelationshipNotFound("0199", 42),
    errors.NoSuchPath("/api/v1/entity"),
    errors.IdTaken("billing"),
    errors.NameTaken("service", "billing", "1.0.0", "0199"),
    errors.RelationshipTaken("a", "b", "depends_on", "0199"),
    errors.ManifestDiffers("0199", "my-plugin", "1.0.0"),
    errors.IdempotencyKeyReused("k1", 42),
    errors.EndpointMissing("target_id", "b"),
    errors.HasRelationships("billing", 12),
    errors.CascadeTooLarge("libc6", 31000, 10000),
    errors.ChangeTooLarge("plugins", 10000),
    errors.AnswerTooLarge("max_watched_nodes", 100000),
    errors.IllegalTransition("0199", "registered", "deprecated", ["active", "pending"]),
    errors.StillRequired("0199", ["shop@1.0.0", "cart@2.1.0"]),
    errors.BuiltIn("ai-ml-words"),
    errors.HistoryChanged("9f3c", "17aa"),
    errors.RevisionMismatch("billing", 41, 42),
    errors.PreconditionFailed("billing", "must_not_exist"),
    errors.RevisionCompacted(7, 100),
    errors.RevisionInFuture(900, 42),
    errors.TokenExpired(7, 100),
    errors.CallTimedOut(60.0),
    errors.RevisionNotReached(90, 42),
    errors.BodyTooLarge(8388608),
    errors.ResolutionTooLarge("max_rounds", 20000),
    errors.StoreFull(),
    errors.TooManyStreams("max_watches", 10000),
    errors.MethodNotAllowed("PUT", "GET, HEAD, OPTIONS, POST"),
    errors.StoreUnavailable(),
    errors.StoreLost(),
    errors.CommitUnknown(),
    errors.NotServing(),
)


def classes() -> Iterator[type[RegistryError]]:
    """Every class of the tree."""
    for _, value in inspect.getmembers(errors, inspect.isclass):
        if issubclass(value, RegistryError):
            yield value


def documented() -> dict[str, str]:
    """The comment of each reason, from the contract."""
    path = ROOT / "proto/ose/registry/v1/error_reason.proto"
    comments, comment = dict[str, str](), ""
    for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
        if line.startswith("//"):
            comment += line.removeprefix("//").strip() + " "
        elif line.startswith(PREFIX):
            comments[line.split(" ")[0].removeprefix(PREFIX)] = comment
            comment = ""
        elif not line:
            comment = ""
    return comments


def example(name: str, comment: str) -> error_details_pb2.ErrorInfo:
    """The example in a reason's comment."""
    start = comment.index("{")
    end = comment.rindex("}") + 1
    info = Parse(comment[start:end], error_details_pb2.ErrorInfo())
    assert info.reason == name
    assert info.domain == DOMAIN
    return info


def test_each_reason_has_one_class() -> None:
    """Every reason but UNSPECIFIED belongs to exactly one class, and every class's is a reason."""
    named = [cls.reason for cls in classes() if "reason" in vars(cls)]
    expected = [name.removeprefix(PREFIX) for name in ErrorReason.keys()]  # noqa: SIM118
    assert sorted(named) == sorted({*expected} - {"UNSPECIFIED"})


def test_each_leaf_has_a_reason_of_its_own() -> None:
    """What is raised says more than its branch: no class without subclasses inherits a reason."""
    assert [
        cls for cls in classes() if not cls.__subclasses__() and "reason" not in vars(cls)
    ] == []


def test_the_tree_is_drawn_as_it_is() -> None:
    """The drawing at the top of the module has every class at its place."""
    drawn, path = set(), list[str]()
    for line in (errors.__doc__ or "").splitlines():
        bare = line.lstrip("│├└─ ")
        name = bare.split(" ")[0]
        if not line or not hasattr(errors, name):
            continue
        depth = (len(line) - len(bare)) // 4
        path[depth:] = [name]
        drawn.add((path[depth - 1] if depth else "Exception", name))
    assert drawn == {(cls.__base__.__name__, cls.__name__) for cls in classes() if cls.__base__}


def test_examples_cover_the_tree() -> None:
    """The examples below are one of each class that has a reason."""
    assert sorted(error.reason for error in EXAMPLES) == sorted(
        documented().keys() - {"UNSPECIFIED"}
    )


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_are_as_documented(error: RegistryError) -> None:
    """Code, reason and metadata of each error are those that its reason's comment tells."""
    comment = documented()[error.reason]
    status = status_of(error, "m", "r1")
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    expected = example(error.reason, comment)
    assert (info.reason, info.domain) == (expected.reason, expected.domain)
    # What is malformed is always named, although not every example says so.
    assert {*expected.metadata} <= {*info.metadata} <= {*expected.metadata, "field"}
    assert f"Code {code_pb2.Code.Name(status.code)}" in comment


def test_each_branch_has_a_code() -> None:
    """The table of codes has every branch of the tree; the root alone is INTERNAL."""
    for cls in RegistryError.__subclasses__():
        if cls is InvalidArgument:
            continue
        assert code_of(cls("message")) != code_pb2.INTERNAL
    codes = [
        code_of(cls("m")) for cls in RegistryError.__subclasses__() if cls is not InvalidArgument
    ]
    assert len({*codes}) == len(codes)
    assert code_of(RegistryError("message")) == code_pb2.INTERNAL


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret /path/to/file"),
        KeyError("x"),
        RuntimeError(),
        ZeroDivisionError("1/0"),
        OSError(5, "Input/output error", "/var/lib/secret"),
        AssertionError("secret"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_ours_is_internal(error: Exception) -> None:
    """Any other exception is INTERNAL with the request's id, logged, and tells nothing else."""
    with capture_logs() as logs:
        status = status_of(error, "Service/Method", "r-17")
    assert status.code == code_pb2.INTERNAL
    assert "r-17" in status.message
    text = str(status) + status.SerializeToString().decode("latin-1")
    for word in ("secret", "Traceback", type(error).__name__, "Input/output"):
        assert word not in text
    info = _info(status)
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"request_id": "r-17"})
    assert [(entry["log_level"], entry["request_id"]) for entry in logs] == [("error", "r-17")]


def test_every_status_names_its_request() -> None:
    """The details have the request's id, when there is one."""
    for request_id, count in (("r1", 2), ("", 1)):
        status = status_of(errors.IdTaken("a"), "m", request_id)
        assert len(status.details) == count


def test_violations_are_details() -> None:
    """A malformed request's status names every malformed field."""
    error = InvalidArgument([Violation("a", "x"), Violation("b.c", "y")])
    bad = error_details_pb2.BadRequest()
    assert status_of(error, "m", "r").details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [("a", "x"), ("b.c", "y")]


def test_prefixes_name_the_path() -> None:
    """An error of a nested message is told with the whole path, and stays what it was."""
    limit = errors.LimitExceeded("metadata", "max_metadata_bytes", 5, 6).prefixed("entity")
    limit = limit.prefixed("mutations[3]")
    assert limit.violations[0].field == "mutations[3].entity.metadata"
    assert (limit.reason, code_of(limit)) == ("LIMIT_EXCEEDED", code_pb2.INVALID_ARGUMENT)
    assert limit.metadata == {
        "field": "mutations[3].entity.metadata",
        "limit": "max_metadata_bytes",
        "maximum": "5",
        "actual": "6",
    }
    assert InvalidArgument.of("", "empty").prefixed("entity").violations[0].field == "entity"


@pytest.mark.parametrize("letter", ["x", "é", "語", "🚀"])
def test_errors_fit_into_trailers(letter: str) -> None:
    """However large what a caller sent, its error is within what clients take as trailers."""
    long, longest = letter * 255, letter * 300_000
    for error in (
        errors.NameTaken("t" * 63, long, long, long),
        errors.RelationshipTaken(long, long, "t" * 63, long),
        InvalidArgument([Violation(f"labels.{longest}", longest)] * 1000),
        InvalidArgument([Violation(f"regions[{n}]", long) for n in range(1000)]).prefixed("entity"),
        RegistryError(longest),
    ):
        status = status_of(error, "m", "r" * 128)
        message = status.message.encode()
        encoded = sum(1 if 0x20 <= byte < 0x7F else 3 for byte in message)
        assert encoded + len(status.SerializeToString()) * 4 / 3 < 8192
        assert str(error) == error.message
    assert error.message.startswith(letter)


def _info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info
