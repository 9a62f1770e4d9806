"""Steps that are not finite are skipped, without the host ever waiting for the device to know."""

import torch
from torch import Tensor, nn


class Guard:
    """Judges each step on the device, and keeps what a bad one would spoil.

    A step is bad if the norm of its gradient is not finite. Gradients are averaged over processes, so all come to the
    same judgement without a word. The optimizer then leaves weights and its state as they are (its ``found_inf``, as
    with torch's GradScaler); the statistics of batch norm are put back here.
    """

    def __init__(self, device: torch.device) -> None:
        self.streak, self.longest, self.skipped = torch.zeros(3, device=device).unbind()
        """Bad steps in a row up to now; most in a row, and bad steps, since the last line of the log."""
        self.bad = torch.zeros((), device=device)
        """Whether the latest step was bad: 1 or 0."""
        self._statistics: list[Tensor] = []

    def watch(self, model: nn.Module) -> None:
        """Keep the statistics that ``model`` collects from now on: those of its modules in training mode."""
        self._statistics = statistics(model)
        self._sizes = [each.numel() for each in self._statistics]
        self._shapes = [each.shape for each in self._statistics]
        self._good = self._flat() if self._statistics else torch.zeros(0)

    @torch.no_grad()
    def judge(self, norm: Tensor) -> Tensor:
        """Return 1 for a bad step, else 0, from the norm of its gradient; undo what its batch did to statistics."""
        bad = (~norm.isfinite()).float()
        self.bad = bad
        self.streak.add_(1).mul_(bad)
        self.skipped.add_(bad)
        torch.maximum(self.longest, self.streak, out=self.longest)
        if self._statistics:
            self._good = torch.where(bad > 0, self._good, self._flat())
            parts = zip(torch.split(self._good, self._sizes), self._shapes, strict=True)
            torch._foreach_copy_(self._statistics, [part.view(shape) for part, shape in parts])
        return bad

    def restart_count(self) -> None:
        """Begin a new line of the log."""
        self.skipped.zero_()
        self.longest.copy_(self.streak)

    def _flat(self) -> Tensor:
        return torch.cat([each.flatten() for each in self._statistics])


def statistics(model: nn.Module) -> list[Tensor]:
    """Return the running means and variances that ``model`` changes as it is: of modules in training mode."""
    modules = [module for module in model.modules() if module.training]
    return [buffer for module in modules for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]
