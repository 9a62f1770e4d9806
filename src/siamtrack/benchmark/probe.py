"""An ONNX file of one large convolution, for any runtime: dense work whose speed is the roof of a network's.

Written by hand, field by field, since tracking does without the package ``onnx``. Source of the numbers of the fields:
onnx.proto of ONNX, IR version 8, operators of version 17.
"""

import numpy as np

_FLOAT, _UINT8, _INT8 = 1, 2, 3  # kinds of tensors
_INTS = 7  # the kind of an attribute


def convolution(channels: int, pixels: int, kernel: int, int8: bool = False) -> bytes:
    """Return the file of ``y = convolution(x)`` with ``channels`` in and out, padded to keep its size.

    With ``int8`` x and y are uint8 and the graph is quantised as :mod:`siamtrack.runtimes.quantize` does it.

    Shapes: x and y [1, channels, pixels, pixels]; products: channels^2 kernel^2 pixels^2.
    """
    shape = (channels, channels, kernel, kernel)
    rng = np.random.default_rng(0)
    pads = _field(5, _field(1, "pads") + _field(20, _INTS) + b"".join(_field(8, kernel // 2) for _ in range(4)))
    if int8:
        weight = _tensor("w8", rng.integers(-99, 99, shape, np.int8), _INT8)
        constants = [
            weight,
            _tensor("scale", np.float32(0.01), _FLOAT),
            _tensor("zero", np.uint8(128), _UINT8),
            _tensor("zero8", np.int8(0), _INT8),
        ]
        nodes = [
            _node("DequantizeLinear", ["x", "scale", "zero"], "xf"),
            _node("DequantizeLinear", ["w8", "scale", "zero8"], "w"),
            _node("Conv", ["xf", "w"], "yf", pads),
            _node("QuantizeLinear", ["yf", "scale", "zero"], "y"),
        ]
    else:
        constants = [_tensor("w", rng.random(shape, np.float32) / channels, _FLOAT)]
        nodes = [_node("Conv", ["x", "w"], "y", pads)]
    kind = _UINT8 if int8 else _FLOAT
    size = _field(2, b"".join(_field(1, _field(1, side)) for side in (1, channels, pixels, pixels)))
    ends = [_field(field, _field(1, name) + _field(2, _field(1, _field(1, kind) + size)))
            for field, name in ((11, "x"), (12, "y"))]  # fmt: skip
    graph = b"".join([*nodes, _field(2, "probe"), *constants, *ends])
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17))


def _node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    named = b"".join(_field(1, name) for name in inputs) + _field(2, output)
    return _field(1, named + _field(4, kind) + attributes)


def _tensor(name: str, values: np.ndarray | np.generic, kind: int) -> bytes:
    sides = b"".join(_field(1, side) for side in values.shape)
    return _field(5, sides + _field(2, kind) + _field(8, name) + _field(9, values.tobytes()))


def _field(number: int, value: int | str | bytes) -> bytes:
    """Return a field of a Protocol Buffers message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
