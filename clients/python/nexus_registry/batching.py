"""From many mutations to batches that an import takes: at most 1,000 each, and 4 MiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ose.registry.v1.mutation_pb2 import Mutation

__all__ = ["BATCH", "MAX_BATCH", "batches"]

MAX_BATCH: Final = 1000
BATCH: Final = 500
"""Large enough to be fast; small enough that others' writes in between wait only for moments."""
MAX_BYTES: Final = 3 << 20


def batches(
    mutations: Iterable[Mutation], size: int = BATCH, max_bytes: int = MAX_BYTES
) -> Iterator[list[Mutation]]:
    """Cuts mutations into batches, in order.

    A mutation that is larger than `max_bytes` is a batch of its own.
    """
    batch: list[Mutation] = []
    total = 0
    for mutation in mutations:
        length = mutation.ByteSize()
        if batch and (len(batch) == size or total + length > max_bytes):
            yield batch
            batch, total = [], 0
        batch.append(mutation)
        total += length
    if batch:
        yield batch
