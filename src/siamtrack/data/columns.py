"""Columns of text that stay small with millions of rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """N strings as one array of bytes (UTF-8)."""

    content: NDArray[np.uint8]
    ends: NDArray[np.int64]
    """[N + 1] string i is content[ends[i]:ends[i + 1]]."""

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """Return ``strings`` as a column."""
        content, ends = bytearray(), [0]
        for text in strings:
            content += text.encode()
            ends.append(len(content))
        return cls(np.frombuffer(bytes(content), np.uint8), np.array(ends))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return self.content[self.ends[number] : self.ends[number + 1]].tobytes().decode()

    @property
    def filled(self) -> NDArray[np.bool_]:
        """[N] which strings are not empty."""
        filled: NDArray[np.bool_] = np.diff(self.ends) > 0
        return filled

    def take(self, numbers: NDArray[np.intp]) -> "Texts":
        """Return the strings of these numbers."""
        lengths = np.diff(self.ends)[numbers]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        content = np.empty(ends[-1], np.uint8)
        for first in range(0, len(numbers), _AT_ONCE):  # the numbers of the bytes take more room than the bytes
            part = slice(first, first + _AT_ONCE)
            begin, end = ends[first], ends[min(first + _AT_ONCE, len(numbers))]
            shift = self.ends[numbers[part]] - ends[:-1][part]
            content[begin:end] = self.content[np.arange(begin, end) + np.repeat(shift, lengths[part])]
        return Texts(content, ends)


@dataclass(frozen=True)
class Names(Sequence[str]):
    """N strings of which there are few different ones."""

    codes: NDArray[np.int32]
    """[N] which of ``values``."""
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self.values[code] for code in self.codes[number]]
        return self.values[int(self.codes[number])]

    def among(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """[N] which strings are among ``names``."""
        wanted = set(names)
        return np.array([value in wanted for value in self.values], bool)[self.codes]

    def take(self, numbers: NDArray[np.intp]) -> "Names":
        """Return the strings of these numbers."""
        return Names(self.codes[numbers], self.values)
