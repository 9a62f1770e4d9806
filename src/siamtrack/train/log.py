"""The curves of a run: JSON lines and TensorBoard."""

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TrainLog:
    """Writes numbers by step to ``log.jsonl`` and TensorBoard event files in ``folder``.

    Args:
        folder: the run's folder.
        step: how many steps are done; lines of later steps (of a run that went on without leaving a checkpoint) are
            dropped, so that the log has each step once.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "log.jsonl"
        kept = [row for row in read_log(folder) if row["step"] <= step]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self._board = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Add ``values`` at ``step`` (number of finished steps); ``kind`` is ``train`` or ``validation``."""
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **rounded}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush the event files."""
        self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of ``log.jsonl``; none without one. A row that was cut off is left out."""
    path = folder / "log.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
