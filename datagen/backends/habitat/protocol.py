"""Messages between this program and the habitat-sim worker: a JSON header and raw arrays, length-prefixed, never pickled.

Used on both sides of the pipe, so: Python 3.9, standard library and numpy only, nothing of this project.

Bytes of a message, integers big-endian:

    magic     4   b"IPTH"
    length    4   bytes of the header, at most MAX_HEADER
    header    n   UTF-8 JSON object; its "arrays" lists [name, dtype, shape] of what follows
    arrays        the raw values of each array in that order, C-contiguous, little-endian, at most MAX_PAYLOAD together
"""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

VERSION = 1
MAGIC = b"IPTH"
MAX_HEADER = 1 << 26  # the objects of a large building
MAX_PAYLOAD = 1 << 29
DTYPES = ("uint8", "int32", "uint32", "float32", "float64")

Header = dict[str, Any]
Arrays = dict[str, Any]  # name -> numpy array; numpy's own generic type differs between the two environments


class ProtocolError(RuntimeError):
    """The other side sent what is not a message."""


def encode(header: Header, arrays: Arrays) -> list[Any]:
    """The pieces (bytes-like) of a message, to be written in order. ``ProtocolError`` if it is too large."""
    described, payload = [], []
    for name, values in arrays.items():
        contiguous = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        if contiguous.dtype.name not in DTYPES:
            raise ProtocolError(f"array '{name}' has dtype {contiguous.dtype}; allowed: {', '.join(DTYPES)}")
        described.append([name, contiguous.dtype.name, list(np.shape(values))])  # a scalar stays one
        payload.append(contiguous.reshape(-1).view(np.uint8).data)
    text = json.dumps(dict(header, arrays=described)).encode()
    size = sum(len(values) for values in payload)
    if len(text) > MAX_HEADER or size > MAX_PAYLOAD:
        raise ProtocolError(f"a message of {len(text)} + {size} bytes is too large")
    return [MAGIC + struct.pack(">I", len(text)) + text, *payload]


def receive(read_exactly: Callable[[int], bytearray]) -> tuple[Header, Arrays]:
    """The next message. ``read_exactly(n)`` returns n bytes or raises; sizes are checked before anything is read."""
    start = read_exactly(8)
    if start[:4] != MAGIC:
        raise ProtocolError(f"expected a message, got {start!r}")
    (length,) = struct.unpack(">I", start[4:])
    if length > MAX_HEADER:
        raise ProtocolError(f"a header of {length} bytes exceeds the limit of {MAX_HEADER}")
    try:
        header = json.loads(read_exactly(length).decode())
        described = [(str(name), str(dtype), [int(n) for n in shape]) for name, dtype, shape in header.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"the header is not what it should be: {error}") from error
    remaining, arrays = MAX_PAYLOAD, {}
    for name, dtype, shape in described:
        if dtype not in DTYPES or min(shape, default=0) < 0:
            raise ProtocolError(f"array '{name}' is described as {dtype} {shape}")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        remaining -= size
        if remaining < 0:
            raise ProtocolError(f"the arrays exceed the limit of {MAX_PAYLOAD} bytes")
        values = np.frombuffer(read_exactly(size), np.dtype(dtype).newbyteorder("<"))
        arrays[name] = values.reshape(shape)
    return header, arrays
