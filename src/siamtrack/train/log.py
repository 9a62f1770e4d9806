"""The curves of a run: JSON lines and TensorBoard."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class TrainLog:
    """Writes numbers by step to ``log.jsonl`` and TensorBoard event files in ``folder``.

    Args:
        folder: the run's folder.
        step: the first step that will be logged; lines of later steps (of a run that went on without leaving a
            checkpoint) are dropped, so that the log has each step once.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "log.jsonl"
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self._path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
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
