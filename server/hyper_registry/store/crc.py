"""CRC-32 inside a kernel: that of zlib, which a kernel cannot call."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_POLYNOMIAL = 0xEDB88320
_MASK = (1 << 32) - 1


def _tables() -> npt.NDArray[np.int64]:
    """What a byte does to the sum when so many others come after it, 0 to 7."""
    tables = np.zeros((8, 256), dtype=np.int64)
    for byte in range(256):
        sum_ = byte
        for _ in range(8):
            sum_ = sum_ >> 1 ^ (_POLYNOMIAL if sum_ & 1 else 0)
        tables[0, byte] = sum_
    for others in range(1, 8):
        before = tables[others - 1]
        tables[others] = before >> 8 ^ tables[0, before & 0xFF]
    return tables


_TABLES = _tables()


@numba.njit(cache=True, nogil=True)
def crc32_of(octets: Bytes, start: int, end: int, before: int) -> int:
    """As `zlib.crc32(octets[start:end], before)`; eight bytes at a time."""
    rest = before ^ _MASK
    at = np.uint64(start)
    for _ in range((end - start) >> 3):
        # One index for all, without a sign: what is read is known to be eight bytes in a row.
        part = octets[at : at + np.uint64(8)]
        low = part[0] | part[1] << 8 | part[2] << 16 | part[3] << 24
        low ^= rest
        rest = (
            _TABLES[7, low & 0xFF]
            ^ _TABLES[6, low >> 8 & 0xFF]
            ^ _TABLES[5, low >> 16 & 0xFF]
            ^ _TABLES[4, low >> 24 & 0xFF]
            ^ _TABLES[3, part[4]]
            ^ _TABLES[2, part[5]]
            ^ _TABLES[1, part[6]]
            ^ _TABLES[0, part[7]]
        )
        at += np.uint64(8)
    for i in range(end - ((end - start) & 7), end):
        rest = rest >> 8 ^ _TABLES[0, (rest ^ octets[i]) & 0xFF]
    return rest ^ _MASK
