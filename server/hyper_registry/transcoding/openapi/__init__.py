"""The HTTP API as an OpenAPI 3.1 document, from the same descriptors that serve it."""

from hyper_registry.transcoding.openapi.document import document

__all__ = ["document"]
