"""Copying bytes inside a kernel.

A loop over bytes, and the assignment of a slice too, take nine times as long as the processor's own
way of copying, which numba has no function for.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic


def _memcpy(_: Any, target: Any, at: Any, source: Any, start: Any, size: Any) -> Any:
    """The types and the code of a call."""
    signature = types.void(target, at, source, start, size)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = context.make_array(signature.args[0])(context, builder, arguments[0])
        of = context.make_array(signature.args[2])(context, builder, arguments[2])
        cgutils.raw_memcpy(  # type: ignore[no-untyped-call]
            builder,
            builder.gep(to.data, [arguments[1]]),
            builder.gep(of.data, [arguments[3]]),
            arguments[4],
            1,
        )
        return context.get_dummy_value()

    return signature, generate


# In a kernel, `memcpy(target, at, source, start, size)` copies `source[start : start + size]` to
# `target[at:]`, both arrays of bytes; nothing is checked. Its type says nothing that is true of
# kernels.
memcpy: Any = intrinsic(_memcpy)
