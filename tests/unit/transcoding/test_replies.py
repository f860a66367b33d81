"""Answers and errors as responses."""

from __future__ import annotations

import json
import zlib

import pytest
from google.rpc import code_pb2
from structlog.testing import capture_logs

from hyper_registry.model import errors
from hyper_registry.transcoding.compression import Compressor, accepts_gzip
from hyper_registry.transcoding.headers import expected_revision, is_match, timeout
from hyper_registry.transcoding.replies import next_link, refusal, status_of_code


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (code_pb2.OK, 200),
        (code_pb2.CANCELLED, 499),
        (code_pb2.UNKNOWN, 500),
        (code_pb2.INVALID_ARGUMENT, 400),
        (code_pb2.DEADLINE_EXCEEDED, 504),
        (code_pb2.NOT_FOUND, 404),
        (code_pb2.ALREADY_EXISTS, 409),
        (code_pb2.PERMISSION_DENIED, 403),
        (code_pb2.UNAUTHENTICATED, 401),
        (code_pb2.RESOURCE_EXHAUSTED, 429),
        (code_pb2.FAILED_PRECONDITION, 400),
        (code_pb2.ABORTED, 409),
        (code_pb2.OUT_OF_RANGE, 400),
        (code_pb2.UNIMPLEMENTED, 501),
        (code_pb2.INTERNAL, 500),
        (code_pb2.UNAVAILABLE, 503),
        (code_pb2.DATA_LOSS, 500),
        (99, 500),
    ],
)
def test_status_codes(code: int, status: int) -> None:
    """As `google.rpc.Code` documents them."""
    assert status_of_code(code) == status


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.EntityNotFound("a", 1), 404, code_pb2.NOT_FOUND),
        (errors.NoSuchPath("/x"), 404, code_pb2.NOT_FOUND),
        (errors.MethodNotAllowed("PUT", "GET"), 405, code_pb2.UNIMPLEMENTED),
        (errors.BodyTooLarge(8), 413, code_pb2.RESOURCE_EXHAUSTED),
        (errors.UnsupportedMedia("content-type", "JSON"), 415, code_pb2.INVALID_ARGUMENT),
        (errors.TooManyStreams("x", 1), 429, code_pb2.RESOURCE_EXHAUSTED),
        (errors.RevisionMismatch("a", 1, 2), 409, code_pb2.ABORTED),
        (errors.NotServing(), 503, code_pb2.UNAVAILABLE),
        (errors.CallTimedOut(1), 504, code_pb2.DEADLINE_EXCEEDED),
    ],
)
def test_errors_are_statuses(error: Exception, status: int, code: int) -> None:
    """A `google.rpc.Status` with its details, and the HTTP status that belongs to it."""
    reply = refusal(error, "Service/Method", "r1")
    body = json.loads(reply.body)
    assert (reply.status, body["code"]) == (status, code)
    info, *_, request = body["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["reason"] == error.reason  # type: ignore[attr-defined]
    assert request["@type"] == "type.googleapis.com/google.rpc.RequestInfo"
    assert request["request_id"] == "r1"


def test_a_condition_in_a_header_fails_with_412() -> None:
    """In the body or the query it fails with 409. Other errors are what they are."""
    error = errors.RevisionMismatch("a", 1, 2)
    assert refusal(error, "", "r", has_condition=True).status == 412
    assert refusal(errors.EntityNotFound("a", 1), "", "r", has_condition=True).status == 404


def test_an_error_that_nobody_expected_tells_nothing() -> None:
    """INTERNAL, and what it was is in the log only."""
    with capture_logs() as logs:
        reply = refusal(KeyError("secret"), "Service/Method", "r1")
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert logs[0]["request_id"] == "r1"


@pytest.mark.parametrize(
    ("path", "query", "link"),
    [
        ("/api/v1/entities", b"", "</api/v1/entities?page_token=t%3D>"),
        ("/x", b"type=a%2Cb&limit=2", "</x?type=a%2Cb&limit=2&page_token=t%3D>"),
        ("/x", b"page_token=old&offset=5&at_revision=3&atTime=x&a=", "</x?a=&page_token=t%3D>"),
        ("/x%20<y>", b"", "</x%20%3Cy%3E?page_token=t%3D>"),
    ],
)  # fmt: skip
def test_the_link_of_the_next_page(path: str, query: bytes, link: str) -> None:
    """The same request with the token in place of what it stands for."""
    assert next_link(path, query, "t=").decode() == f'{link}; rel="next"'


@pytest.mark.parametrize(
    ("header", "is_taken"),
    [
        (b"", False),
        (b"gzip", True),
        (b"gzip, deflate, br", True),
        (b"br;q=1.0, gzip;q=0.5", True),
        (b"GZIP", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.0", False),
        (b"gzip;q=0.001", True),
        (b"x-gzip", True),
        (b"notgzip", False),
        (b"*", False),
    ],
)
def test_who_takes_gzip(header: bytes, is_taken: bool) -> None:
    """Whoever names it with a quality that is not 0."""
    assert accepts_gzip(header) is is_taken


def test_parts_that_are_compressed_can_be_read_as_they_come() -> None:
    """A watcher does not wait for the compressor to have enough."""
    compressor, inflate = Compressor(), zlib.decompressobj(31)
    for part in (b"one\n", b"two\n"):
        assert inflate.decompress(compressor.add(part)) == part
    assert inflate.decompress(compressor.add(b"", is_last=True)) == b""
    assert inflate.eof


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"10S", 10), (b"1H", 3600), (b"2M", 120), (b"5m", 0.005), (b"7u", 7e-6), (b"99999999n", 0.1)],
)
def test_timeouts(value: bytes, seconds: float) -> None:
    """As gRPC writes them."""
    assert timeout({b"grpc-timeout": value}) == pytest.approx(seconds, rel=1e-6)
    assert timeout({}) is None


@pytest.mark.parametrize("value", [b"", b"10", b"S", b"10s", b"-1S", b"123456789S", b"1.5S"])
def test_what_is_no_timeout(value: bytes) -> None:
    """It is refused, and not passed over."""
    with pytest.raises(errors.InvalidArgument):
        timeout({b"grpc-timeout": value})


def test_entity_tags() -> None:
    """Weak and strong ones name a revision, and there may be several to match."""
    assert expected_revision('"42"', "/x") == expected_revision('W/"42"', "/x") == "42"
    assert expected_revision("*", "/x") == ""
    assert is_match('"1", W/"42"', '"42"', "if-none-match")
    assert is_match("*", '"42"', "if-none-match")
    assert not is_match('"1"', '"42"', "if-none-match")
    for wrong in ("42", "", '"42', '"1", x', '"1", "2"'):
        with pytest.raises(errors.InvalidArgument):
            expected_revision(wrong, "/x")
    for never in ('"0"', '"abc"', '""', '"-1"', '"01"'):
        with pytest.raises(errors.PreconditionFailed):
            expected_revision(never, "/x")
