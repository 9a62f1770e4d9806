"""Results of PySOT, the GOT-10k toolkit and the VOT toolkit, read as if the tracker had been run here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.foreign import lines
from siamtrack.evaluate.foreign.coordinates import (
    CLOSE,
    Coordinates,
    FirstBox,
    check_first_boxes,
    looks_like_corners,
)
from siamtrack.evaluate.foreign.layouts import EXPERIMENTS, FORMATS, Layout, find_layout
from siamtrack.evaluate.foreign.lines import Entry, read_entries, read_numbers
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED, Result, Run, SequenceResult
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Mask, enclosing_box, format_region


def find_trackers(
    folder: Path, dataset: Dataset, form: str | None = None, experiment: str | None = None
) -> dict[str, Layout]:
    """Return the trackers by name that have results of a data set: the folder itself, or those in it.

    Raises:
        UserError: there is none, the folder does not exist, or ``form`` is unknown.
    """
    if form is not None and form not in FORMATS:
        raise UserError(f"unknown format {form!r}{nearest(form, FORMATS)}; known are {', '.join(FORMATS)}")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    names = [sequence.name for sequence in dataset.sequences]
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = {path: layout for path in folders if (layout := find_layout(path, names, form, experiment))}
    if folder in found:
        return {folder.resolve().name: found[folder]}
    if not found:
        looked = " or ".join(
            FORMATS[each].replace("EXPERIMENT", experiment or "EXPERIMENT") for each in [form or "pysot"]
        )
        where = f", EXPERIMENT one of {', '.join(EXPERIMENTS)}" if "EXPERIMENT" in looked else ""
        raise UserError(
            f"{folder} holds no results of {dataset.name}'s sequences: looked there and in its folders for "
            f"{looked}{where}, with SEQUENCE such as {names[0]}"
        )
    return {path.name: layout for path, layout in found.items()}


def read_results(
    tracker: str,
    layout: Layout,
    dataset: Dataset,
    coordinates: Coordinates = Coordinates(),
    nan_is_lost: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """Return what a tracker did on a data set, out of the files of another tool.

    The protocol is told by the files: ``SEQUENCE_00000012`` is a start of multi-start; confidences in ``longterm`` are
    long-term; otherwise an experiment of the VOT toolkit is supervised, but ``unsupervised`` is one-pass. Files without
    an experiment are the data set's own protocol. Sequences without files are left out.

    Args:
        tracker: its name.
        layout: its files.
        dataset: sequences and truth.
        coordinates: what the boxes are, where they are not x, y, w, h from 0.
        nan_is_lost: take frames of NaN for frames in which the tracker found nothing, which they always are in
            long-term results.
        facts: what else the run shall say of itself.

    Raises:
        UserError: a file has more or fewer lines than its sequence has frames, holds NaN or no regions, or its boxes
            are of another kind than told.
    """
    files = {sequence.name: layout.find(sequence.name) for sequence in dataset.sequences}
    protocol = _protocol(layout, dataset, [path for paths in files.values() for path in paths])
    reading = _Reading(protocol, coordinates, nan_is_lost or protocol == "long-term")
    results = {
        sequence.name: reading.sequence(sequence, files[sequence.name])
        for sequence in dataset.sequences
        if files[sequence.name]
    }
    check_first_boxes(reading.firsts, coordinates)
    return Run(tracker, dataset.name, protocol, results, facts or {})


def _protocol(layout: Layout, dataset: Dataset, paths: list[Path]) -> str:
    if _number(paths[0]) is not None:
        return "multi-start"
    if layout.experiment == "unsupervised":
        return "one-pass"
    if _beside(paths[0], "confidence") and (layout.experiment == "longterm" or dataset.protocol == "long-term"):
        return "long-term"
    if layout.experiment is not None:
        return "supervised"
    return "one-pass" if dataset.protocol in ("supervised", "multi-start") else dataset.protocol


def _number(path: Path) -> int | None:
    """Return the frame in which a file of multi-start starts."""
    number = path.stem.removeprefix(f"{path.parent.name}_")
    return int(number) if len(number) == 8 and number.isdigit() else None


def _beside(path: Path, kind: str) -> Path | None:
    """Return the file of confidences or times that belongs to a file of regions."""
    stem = path.stem
    series = stem.rsplit("_", 1)[0]
    places = [path.with_name(f"{stem}_{kind}.value"), path.with_name(f"{stem}_{kind}.txt")]
    places += [path.with_name(f"{series}_{kind}.txt"), path.parent / "times" / f"{stem}_{kind}.txt"]
    return next((place for place in places if place.is_file()), None)


class _Reading:
    """What reading one file after the other has in common."""

    def __init__(self, protocol: str, coordinates: Coordinates, nan_is_lost: bool) -> None:
        self.firsts: list[FirstBox] = []
        self._protocol, self._coordinates, self._nan_is_lost = protocol, coordinates, nan_is_lost

    def sequence(self, sequence: Sequence, paths: tuple[Path, ...]) -> SequenceResult:
        if self._protocol == "multi-start" and sequence.anchors:
            missing = {max(anchor, ~anchor) for anchor in sequence.anchors} - set(map(_number, paths))
            if missing:
                raise UserError(
                    f"{paths[0].parent} has no results of the start in frame {min(missing)} of sequence {sequence.name}"
                )
        return tuple(self._file(sequence, path, number) for number, path in enumerate(paths))

    def _file(self, sequence: Sequence, path: Path, repetition: int) -> Result:
        entries = read_entries(path)
        frames = _frames(sequence, path, len(entries))
        if len(entries) != len(frames):
            start = f" from frame {frames.start} on" if _number(path) is not None else ""
            raise UserError(
                f"{path} has {len(entries)} lines, but sequence {sequence.name} has {len(frames)} frames{start}; "
                "mend the file, or remove it to do without the sequence"
            )
        nothing = next((number for number, entry in enumerate(entries, 1) if entry is None), None)
        if nothing and not self._nan_is_lost:
            raise UserError(
                f"{path} line {nothing} is NaN, no box; give --nan-is-lost if the tracker found nothing there"
            )
        self._look(sequence, path, entries, frames)
        boxes, polygons, masks = self._regions(sequence, path, entries, frames)
        return Result(
            boxes,
            _column(path, "confidence", 0, len(entries)),
            _column(path, "time", repetition, len(entries)),
            self._codes(entries),
            polygons,
            masks,
            start=frames.start,
            backward=frames.step < 0,
        )

    def _look(self, sequence: Sequence, path: Path, entries: list[Entry], frames: range) -> None:
        """Note the first box to compare it with the truth, and see whether the boxes fit the image."""
        first, truth = entries[0], sequence.boxes[frames[0]]
        if isinstance(first, np.ndarray) and first.ndim == 1 and np.isfinite(truth).all():
            self.firsts.append(FirstBox(path, first, truth))
            if not np.allclose(first, truth, atol=CLOSE):
                return
            # It is the given box, which tools write as it was given, whatever the others are.
        if self._coordinates.corners is None:
            boxes = np.array([entry for entry in entries[1:] if isinstance(entry, np.ndarray) and entry.ndim == 1])
            if len(boxes) and (boxes[:, 2:] > boxes[:, :2]).all(1).mean() > 0.95:  # else no need to read an image
                if sequence.size is None:
                    height, width = sequence.frame(0).shape[:2]
                else:
                    width, height = sequence.size
                if looks_like_corners(boxes, (width, height)):
                    raise UserError(
                        f"most boxes of {path} leave the image of {width}x{height} pixels, and none would if they were "
                        "corners x1,y1,x2,y2; give --corners exclusive or --corners inclusive if they are"
                    )

    def _regions(
        self, sequence: Sequence, path: Path, entries: list[Entry], frames: range
    ) -> tuple[Boxes, NDArray[np.float64] | None, tuple[str | None, ...] | None]:
        shift = float(bool(self._coordinates.one_based))
        boxes, polygons = np.full((len(entries), 4), np.nan), np.full((len(entries), 4, 2), np.nan)
        masks: list[str | None] = [None] * len(entries)
        has_polygons = False
        for place, entry in enumerate(entries):
            if entry is None:
                continue
            if isinstance(entry, int):
                if entry == lines.STARTED:
                    boxes[place] = sequence.boxes[frames[place]]
            elif isinstance(entry, Mask):
                moved = Mask(entry.x - int(shift), entry.y - int(shift), entry.pixels)
                boxes[place], masks[place] = enclosing_box(moved), format_region(moved)
            elif entry.ndim == 1:
                boxes[place] = self._coordinates.convert(entry)
                if (boxes[place, 2:] < 0).any():
                    shown = ",".join(f"{value:g}" for value in entry)
                    raise UserError(
                        f"{path} line {place + 1}, {shown}, has a negative width or height; expected x,y,w,h, or "
                        "corners from left top to right bottom"
                    )
            else:
                if len(entry) > 4:
                    raise UserError(f"{path} line {place + 1} is a polygon of {len(entry)} corners, expected at most 4")
                polygons[place] = entry[[0, 1, 2, -1]] - shift  # a triangle repeats its last corner
                boxes[place], has_polygons = enclosing_box(polygons[place]), True
        if has_polygons:
            x, y, w, h = boxes.T
            corners = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1).reshape(-1, 4, 2)
            polygons = np.where(np.isnan(polygons), corners, polygons)
        return boxes, polygons if has_polygons else None, tuple(masks) if any(masks) else None

    def _codes(self, entries: list[Entry]) -> NDArray[np.int8]:
        skipped = SKIPPED if self._protocol == "supervised" else TRACKED
        meaning = {lines.UNKNOWN: skipped, lines.STARTED: STARTED, lines.FAILED: FAILED}
        codes = np.array([meaning[each] if isinstance(each, int) else TRACKED for each in entries], np.int8)
        codes[0] = STARTED
        return codes


def _frames(sequence: Sequence, path: Path, count: int) -> range:
    """Return the frames of a file in their order."""
    start, length = _number(path), len(sequence)
    if start is None:
        return range(length)
    if start >= length:
        raise UserError(f"{path} starts in frame {start}, but sequence {sequence.name} has {length} frames")
    forward, backward = range(start, length), range(start, -1, -1)
    if sequence.anchors:
        if start not in sequence.anchors and ~start not in sequence.anchors:
            raise UserError(f"{path} starts in frame {start}, which is no anchor of sequence {sequence.name}")
        return forward if start in sequence.anchors else backward
    if len(forward) == len(backward):
        raise UserError(
            f"{path} may run forward or backward from the middle of sequence {sequence.name}, whose anchors are unknown"
        )
    return backward if count == len(backward) else forward


def _column(path: Path, kind: str, column: int, count: int) -> NDArray[np.float64]:
    """Return the confidences or times [T] that belong to a file, NaN where there are none."""
    beside = _beside(path, kind)
    if beside is None:
        return np.full(count, np.nan)
    table = read_numbers(beside)
    if len(table) != count:
        raise UserError(f"{beside} has {len(table)} lines, but {path.name} has {count}; mend it, or remove it")
    column = column if beside.suffix == ".txt" else 0
    return table[:, column] if column < table.shape[1] else np.full(count, np.nan)
