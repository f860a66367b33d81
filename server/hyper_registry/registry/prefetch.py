"""Telling the processor inside a kernel what will be read soon, so that nothing waits for it then.

A walk reads rows all over memory, and each takes longer to come than everything that is done with
it. Those of many edges come at once if they are asked for before they are needed.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_READ, _KEEP, _DATA = 0, 3, 1
_NUMBER = ir.IntType(32)  # type: ignore[no-untyped-call]
_OCTET = ir.IntType(8).as_pointer()  # type: ignore[no-untyped-call]
_FORM = ir.FunctionType(ir.VoidType(), [_OCTET, *[_NUMBER] * 3])  # type: ignore[no-untyped-call]


def _prefetch(_: Any, array: Any, row: Any, column: Any) -> Any:
    """The types and the code of a call."""
    signature = types.void(array, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(of.data, _OCTET)
        for axis, index in enumerate(arguments[1 : 1 + signature.args[0].ndim]):
            step = builder.mul(index, builder.extract_value(of.strides, axis))
            address = builder.gep(address, [step])
        function = builder.module.declare_intrinsic("llvm.prefetch", [_OCTET], _FORM)
        builder.call(function, [address, *map(_NUMBER, (_READ, _KEEP, _DATA))])
        return context.get_dummy_value()

    return signature, generate


# In a kernel, `prefetch(array, row, column)` asks for a place of an array, which need not exist; a
# column says nothing where there are none. Its type says nothing that is true of kernels.
prefetch: Any = intrinsic(_prefetch)
