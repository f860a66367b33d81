"""A contract of every kind of field and rule that HTTP can meet, made when it is imported."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc_tools  # type: ignore[import-untyped]
from google.api import annotations_pb2  # noqa: F401 - the contract imports it
from google.protobuf import (  # noqa: F401 - as above
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from hyper_registry.model.errors import NotServing
from hyper_registry.services.calls import Call

PROTO = """
syntax = "proto3";
package tests.transcoding;

import "google/api/annotations.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Everything {
  string text = 1;
  int32 small = 2;
  int64 large = 3;
  uint64 natural = 4;
  double real = 5;
  float single = 6;
  bool flag = 7;
  bytes raw = 8;
  Colour colour = 9;
  repeated string texts = 10;
  repeated int32 smalls = 11;
  repeated Colour colours = 12;
  map<string, int32> counts = 13;
  map<int32, int32> numbers = 14;
  Inner inner = 15;
  repeated Inner inners = 16;
  google.protobuf.Timestamp time = 17;
  google.protobuf.Duration age = 18;
  google.protobuf.FieldMask mask = 19;
  google.protobuf.Struct object = 20;
  google.protobuf.Int64Value maybe_large = 21;
  google.protobuf.BoolValue maybe_flag = 22;
  google.protobuf.BytesValue maybe_raw = 23;
  oneof choice {
    string first_choice = 24;
    int32 second_choice = 25;
  }
  repeated google.protobuf.Timestamp times = 26;
  optional int32 maybe_small = 27;
}

enum Colour {
  COLOUR_UNSPECIFIED = 0;
  COLOUR_RED = 1;
  COLOUR_DARK_BLUE = 2;
}

message Inner {
  string text = 1;
  int32 small = 2;
  Inner inner = 3;
  repeated string texts = 4;
}

message Nothing {}

message Chunk {
  bytes data = 1;
}

service Sample {
  rpc Show(Everything) returns (Everything) {
    option (google.api.http) = {
      get: "/v1/shown/{text}"
      additional_bindings {get: "/v1/of/{inner.text}/shown/{text}"}
      additional_bindings {get: "/v1/inner/{text}" response_body: "inner"}
      additional_bindings {get: "/v1/texts/{text=a/**}" response_body: "texts"}
    };
  }
  rpc Take(Everything) returns (Everything) {
    option (google.api.http) = {
      post: "/v1/taken/{text}" body: "*"
      additional_bindings {post: "/v1/inner" body: "inner"}
      additional_bindings {post: "/v1/list" body: "texts"}
      additional_bindings {put: "/v1/taken/{inner.text}:deep" body: "inner"}
    };
  }
  rpc Any(Everything) returns (Everything) {
    option (google.api.http) = {
      custom {kind: "*" path: "/v1/any"}
      additional_bindings {custom {kind: "HEAD" path: "/v1/head"}}
    };
  }
  rpc Chunks(Everything) returns (stream Chunk) {
    option (google.api.http) = {get: "/v1/chunks/{text}"};
  }
  rpc Unheard(Nothing) returns (Nothing);
}
"""


def _compiled() -> Any:
    includes = [sysconfig.get_path("purelib"), str(Path(grpc_tools.__file__).parent / "_proto")]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "sample.proto").write_text(PROTO, encoding="utf-8")
        code = protoc.main(
            ["protoc", f"--descriptor_set_out={folder / 'out'}"]
            + [f"-I{path}" for path in (directory, *includes)]
            + ["sample.proto"]
        )
        assert code == 0, sys.exc_info()
        files = FileDescriptorSet.FromString((folder / "out").read_bytes())
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(files.file[0].SerializeToString())
    return pool.FindFileByName("sample.proto")


FILE: Any = _compiled()
Everything: Any = GetMessageClass(FILE.message_types_by_name["Everything"])
Chunk: Any = GetMessageClass(FILE.message_types_by_name["Chunk"])
Inner: Any = GetMessageClass(FILE.message_types_by_name["Inner"])


class Sample:
    """Answers every request with itself."""

    descriptor = FILE.services_by_name["Sample"]

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def show(self, request: Message, call: Call) -> Message:
        """Answers the request."""
        self.calls.append(call)
        return request

    take = any = unheard = show

    async def chunks(self, request: Any, _call: Call) -> AsyncIterator[Message]:
        """Streams each of the texts, and fails at the end if the flag is set."""
        for text in request.texts:
            yield Chunk(data=text.encode())
        if request.flag:
            raise NotServing
