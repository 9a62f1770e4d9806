"""Time convolutions by Winograd's algorithm and by oneDNN with packed weights, to find where the former is faster.

python benchmarks/winograd.py [--rounds 5]

One thread, processor's time, in turn; the layers are those of the presets' trunks and heads. Printed are the fastest of
the rounds, their ratio, and the largest difference from float64 relative to the largest result, of both.
"""

import argparse
import time

import torch
from torch import nn

from siamtrack.runtimes.onednn import _NONE, _Packed, _Winograd

# Channels in and out, kernel, padding, dilation, side of the input.
LAYERS = [
    (32, 32, 3, 1, 1, 63),
    (64, 64, 3, 1, 1, 63),
    (256, 64, 3, 1, 1, 31),
    (512, 128, 3, 1, 1, 15),
    (64, 16, 3, 1, 1, 61),
    (128, 128, 3, 1, 1, 31),
    (256, 256, 3, 0, 1, 31),
    (256, 256, 3, 2, 2, 31),
    (384, 384, 3, 0, 1, 30),
    (512, 512, 3, 4, 4, 31),
    (512, 1024, 3, 1, 1, 31),
    (1024, 2048, 3, 2, 2, 31),
    (96, 256, 5, 0, 1, 69),
]


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'layer':32} {'direct':>9} {'winograd':>9} {'ratio':>6}   differences")
    for inputs, outputs, kernel, padding, dilation, side in LAYERS:
        layer = nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation)
        x = torch.rand(1, inputs, side, side).contiguous(memory_format=torch.channels_last)
        exact = layer.double()(x.double())
        layer.float()
        ways = [way(layer, _NONE, list(x.shape)) for way in (_Packed, _Winograd)]
        apart = [float((way(x) - exact).abs().max() / exact.abs().max()) for way in ways]
        seconds: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):
            for way, spent in zip(ways, seconds, strict=True):
                began = time.thread_time()
                way(x)
                spent.append(time.thread_time() - began)
        direct, winograd = (1000 * min(spent) for spent in seconds)
        name = f"{inputs}-{outputs}, {kernel}x{kernel}, dilation {dilation}, {side}"
        ratio = direct / winograd
        print(f"{name:32} {direct:6.2f} ms {winograd:6.2f} ms {ratio:6.2f}   {apart[0]:.1e} {apart[1]:.1e}", flush=True)


if __name__ == "__main__":
    main()
