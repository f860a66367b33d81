"""Server reflection: what tools ask to know the API without its proto files.

The library's part of it has two gaps. It finds the file of anything but a method, which tools ask
for too. And it knows itself by its old name only, v1alpha, so that whoever lists the methods of all
services looks for those of v1 in vain.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def handlers(services: Iterable[str]) -> list[grpc.GenericRpcHandler]:
    """What serves reflection, v1 and v1alpha, for some services and for itself."""
    servicer: Any = reflection.aio.ReflectionServicer((*services, *NAMES), pool=_Symbols())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
        for name in NAMES
    ]


class _Symbols:
    """The part of a descriptor pool that the library uses. Lookups raise KeyError."""

    def __init__(self) -> None:
        self._api = descriptor_pool.Default()
        self._renamed = descriptor_pool.DescriptorPool()
        self._renamed.Add(_renamed())

    def FindFileByName(self, name: str) -> FileDescriptor:
        try:
            return self._api.FindFileByName(name)
        except KeyError:
            return self._renamed.FindFileByName(name)

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:
        for pool in (self._api, self._renamed):
            with suppress(KeyError):
                return pool.FindFileContainingSymbol(name)
            with suppress(KeyError):
                return pool.FindMethodByName(name).containing_service.file
        raise KeyError(name)

    def FindMessageTypeByName(self, name: str) -> Descriptor:
        return self._api.FindMessageTypeByName(name)

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:
        return self._api.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:
        return self._api.FindAllExtensions(message)


def _renamed() -> FileDescriptorProto:
    """The proto of v1, which is that of v1alpha under another name."""
    old = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(old)
    text = text_format.MessageToString(old).replace("v1alpha", "v1")
    return text_format.Parse(text, FileDescriptorProto())
