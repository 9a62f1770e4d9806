"""What int8 costs, convolution by convolution and rule by rule: the numbers in docs/export.md.

python benchmarks/int8_choices.py SEQUENCES [--model siamrpnpp_lite] [--crops 96] [--only stem]

Prints, for the search graph quantised in different ways, the mean over crops of the largest change of a score, and in
how many crops the candidate with the best score is the same one.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from siamtrack.evaluate.datasets import read_dataset
from siamtrack.models import zoo
from siamtrack.runtimes.load import load_network
from siamtrack.runtimes.quantize import float_nodes, quantize
from siamtrack.runtimes.verify import Clip, record


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
    template, search = (zoo.weights(given.model, f".{part}.onnx") for part in ("template", "search"))
    model = onnx.load(search)
    names = [entry.name for entry in model.graph.input]
    crops = record(network, preset, clips, given.crops)
    calibration, held_out = crops[::2], [(x, *network.template(z)) for z, x in crops[1::2]]

    def answers(graph: bytes) -> list[np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        session = onnxruntime.InferenceSession(graph, options)
        return [scores(session.run(["cls"], dict(zip(names, values, strict=True)))[0]) for values in held_out]

    expected = answers(search.read_bytes())
    convolutions = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    weights = {entry.name for entry in model.graph.initializer}
    correlations = [name for name, weight in convolutions.items() if weight not in weights]
    kept = float_nodes(model, preset.model.search_size)
    heads = [name for name in kept if name not in correlations and "backbone" not in convolutions[name]]

    def judge(label: str, exclude: list[str]) -> None:
        found = answers(quantize(template, onnx.load(search), calibration, exclude).SerializeToString())
        change = np.mean([np.abs(a - b).max() for a, b in zip(found, expected, strict=True)])
        same = sum(a.argmax() == b.argmax() for a, b in zip(found, expected, strict=True))
        print(f"{label:60} change {change:.3f}  same best {same}/{len(expected)}", flush=True)

    for name, weight in convolutions.items():
        if weight in weights and (given.only or "") in weight:
            judge(weight, [each for each in convolutions if each != name])
    judge("all but the correlations", correlations)
    judge("... and the last convolutions", [*correlations, *heads])
    judge("all but the correlations and the early ones", [name for name in kept if name not in heads])
    judge("what siamtrack export does", kept)


if __name__ == "__main__":
    main()
