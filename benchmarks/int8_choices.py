"""What int8 costs, convolution by convolution and rule by rule: the numbers in docs/export.md.

python benchmarks/int8_choices.py SEQUENCES [--model siamrpnpp_lite] [--crops 96] [--only stem]

Prints, for the search graph quantised in different ways, the mean over crops of the largest change of a score, and in
how many crops the candidate with the best score is the same one.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from siamtrack.evaluate.datasets import read_dataset
from siamtrack.models import zoo
from siamtrack.runtimes.load import load_network
from siamtrack.runtimes.quantize import float_nodes
from siamtrack.runtimes.verify import Clip, record


class Feeds(CalibrationDataReader):
    """The crops as the graph's inputs."""

    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        """Return the next crop's inputs, None after the last."""
        return next(self.feeds, None)


def scores(cls):
    """Return the scores of all candidates. Shapes: cls [1, 2 A, m, m]; result [A m m]."""
    background, foreground = cls.reshape(2, -1).astype(float)
    return 1 / (1 + np.exp(background - foreground))


def main() -> None:
    """Quantise in each way and print what changed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--model", default="siamrpnpp_lite")
    parser.add_argument("--crops", type=int, default=96, help="half to calibrate, half to compare")
    parser.add_argument("--only", help="only convolutions whose weight's name has this in it")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()

    network, preset = load_network(given.model, runtime="onnx", threads=given.threads)
    data = read_dataset("folder", given.sequences.absolute(), (), None)
    clips = [Clip(s.name, lambda s=s: map(s.frame, range(len(s))), s.boxes[0]) for s in data.sequences]
    search = zoo.weights(given.model, ".search.onnx")
    model = onnx.load(search)
    names = [entry.name for entry in model.graph.input]
    feeds = [
        dict(zip(names, [x, *network.template(z)], strict=True)) for z, x in record(network, preset, clips, given.crops)
    ]
    calibration, held_out = feeds[::2], feeds[1::2]
    session = onnxruntime.InferenceSession(search)
    expected = [scores(session.run(["cls"], feed)[0]) for feed in held_out]
    convolutions = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    weights = {entry.name for entry in model.graph.initializer}
    correlations = [name for name, weight in convolutions.items() if weight not in weights]
    kept = float_nodes(model, preset.model.search_size)
    heads = [name for name in kept if name not in correlations and "backbone" not in convolutions[name]]

    def judge(label: str, exclude=(), only=None) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "search.onnx"
            quantize_static(
                search, path, Feeds(calibration), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"], nodes_to_quantize=only,
                nodes_to_exclude=list(exclude),
            )  # fmt: skip
            quantized = onnxruntime.InferenceSession(path)
            found = [scores(quantized.run(["cls"], feed)[0]) for feed in held_out]
        change = np.mean([np.abs(a - b).max() for a, b in zip(found, expected, strict=True)])
        same = sum(a.argmax() == b.argmax() for a, b in zip(found, expected, strict=True))
        print(f"{label:60} change {change:.3f}  same best {same}/{len(expected)}", flush=True)

    for name, weight in convolutions.items():
        if weight in weights and (given.only or "") in weight:
            judge(weight, only=[name])
    judge("all but the correlations", exclude=correlations)
    judge("... and the last convolutions", exclude=[*correlations, *heads])
    judge("all but the correlations and the early ones", [name for name in kept if name not in heads])
    judge("what siamtrack export does", exclude=kept)


if __name__ == "__main__":
    main()
