"""Archives in the forms in which others take results."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, Result, Run
from siamtrack.files import atomic
from siamtrack.regions import format_region

FORMS = ("got10k", "trackingnet", "vot")
_VOT_STARTED, _VOT_FAILED, _VOT_UNKNOWN = "1", "2", "0"


def form_of(run: Run) -> str:
    """Return the form that a run's data set asks for, else that of its protocol.

    Raises:
        UserError: neither asks for any.
    """
    plain = run.dataset.lower().replace("-", "")
    form = next((form for form in FORMS if plain.startswith(form)), None)
    if form is None and run.protocol in ("supervised", "multi-start", "long-term"):
        form = "vot"
    if form is None:
        raise UserError(
            f"no form is known for submissions of {run.protocol} on data set {run.dataset}; give --format, one of "
            f"{', '.join(FORMS)}"
        )
    return form


def write_submission(run: Run, form: str, out: Path, dataset: Dataset | None = None) -> None:
    """Write a run as an archive to submit: equal runs give equal bytes.

    - ``got10k``: ``SEQUENCE/SEQUENCE_001.txt``, a line x,y,w,h a frame (002 … for repetitions), and
      ``SEQUENCE/SEQUENCE_time.txt``, seconds, a column a repetition (got10k/experiments/got10k.py).
    - ``trackingnet``: ``SEQUENCE.txt``, a line x,y,w,h a frame.
    - ``vot``: ``TRACKER/EXPERIMENT/SEQUENCE/SEQUENCE_001.txt`` with codes 1, 2 and 0, and ``_time.value`` and
      ``_confidence.value`` beside it; ``SEQUENCE_00000012.txt`` for starts of multi-start. Unpacked to ``results`` of
      a workspace, the toolkit analyses and packs it.

    Args:
        run: what is submitted.
        form: one of :data:`FORMS`.
        out: the file.
        dataset: what the run must be complete on; None not to check.

    Raises:
        UserError: the run is empty, lacks a sequence or frames, or a frame has no box where one must be; the form is
            unknown; or the file cannot be written.
    """
    if form not in FORMS:
        raise UserError(f"unknown format {form!r}{nearest(form, FORMS)}; known are {', '.join(FORMS)}")
    if not run.results:
        raise UserError(f"{run.folder or run.tracker} has no finished sequences; run siamtrack eval first")
    if dataset is not None:
        _check_complete(run, dataset)
    files = {"got10k": _got10k, "trackingnet": _trackingnet, "vot": _vot}[form](run)
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, text in sorted(files):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, text)


def _check_complete(run: Run, dataset: Dataset) -> None:
    missing = [sequence.name for sequence in dataset.sequences if sequence.name not in run.results]
    if missing:
        raise UserError(
            f"{run.folder or run.tracker} lacks {len(missing)} of {len(dataset.sequences)} sequences "
            f"({', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}); finish it with siamtrack eval first"
        )
    for sequence in dataset.sequences:
        for result in run.results[sequence.name]:
            frames = result.start + 1 if result.backward else len(sequence) - result.start
            if len(result) != frames:
                raise UserError(
                    f"{run.folder or run.tracker} has {len(result)} frames of sequence {sequence.name}, which has "
                    f"{frames}; run it again without --frames"
                )


def _got10k(run: Run) -> Iterator[tuple[str, str]]:
    for name, results in run.results.items():
        for number, result in enumerate(results, 1):
            yield f"{name}/{name}_{number:03d}.txt", _boxes(result, name)
        seconds = np.stack([result.seconds for result in results], 1)
        yield f"{name}/{name}_time.txt", _table(np.nan_to_num(seconds), "%.8f")


def _trackingnet(run: Run) -> Iterator[tuple[str, str]]:
    for name, results in run.results.items():
        if len(results) != 1:
            raise UserError(f"sequence {name} has {len(results)} repetitions, but TrackingNet takes one")
        yield f"{name}.txt", _boxes(results[0], name)


def _vot(run: Run) -> Iterator[tuple[str, str]]:
    experiment = {"long-term": "longterm", "supervised": "baseline", "multi-start": "baseline"}.get(run.protocol)
    experiment = "realtime" if run.facts.get("realtime") else experiment or "unsupervised"
    for name, results in run.results.items():
        for number, result in enumerate(results, 1):
            series = f"{name}_{result.start:08d}" if run.protocol == "multi-start" else f"{name}_{number:03d}"
            stem = f"{run.tracker}/{experiment}/{name}/{series}"
            yield f"{stem}.txt", "".join(f"{_vot_line(result, frame)}\n" for frame in range(len(result)))
            for kind, values in (("time", result.seconds), ("confidence", result.scores)):
                known = [f"{value:.8g}" if np.isfinite(value) else "" for value in values]
                if any(known):
                    yield f"{stem}_{kind}.value", "".join(f"{value}\n" for value in known)


def _vot_line(result: Result, frame: int) -> str:
    code = result.codes[frame]
    if code == STARTED:
        return _VOT_STARTED
    if code == FAILED:
        return _VOT_FAILED
    if result.masks is not None:
        return result.masks[frame] or _VOT_UNKNOWN  # they are kept as VOT's text
    region = result.boxes[frame] if result.polygons is None else result.polygons[frame]
    return format_region(region) if np.isfinite(region).all() else _VOT_UNKNOWN


def _boxes(result: Result, name: str) -> str:
    nothing = np.flatnonzero(~np.isfinite(result.boxes).all(1))
    if len(nothing):
        why = "the tracker was busy" if result.codes[nothing[0]] == SKIPPED else "the tracker found nothing"
        raise UserError(f"sequence {name} has no box in frame {nothing[0]} ({why}), but there must be one in each")
    return _table(result.boxes, "%.3f")


def _table(values: np.ndarray, form: str) -> str:
    text = io.StringIO()
    np.savetxt(text, values, form, ",")
    return text.getvalue()
