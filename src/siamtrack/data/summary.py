"""What an index holds, counted by source."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from siamtrack.data.index import Index


@dataclass(frozen=True)
class Summary:
    """One source of an index."""

    source: str
    pictures: int
    videos: int
    tracks: int
    """Objects that are followed over several frames."""
    boxes: int
    """Objects in pictures, of tracks and of stills."""
    still_boxes: int
    """Those of stills."""
    masks: int
    absent: int
    """Frames in which a track is known to be absent."""
    size: tuple[int, int]
    """Median width and height of the pictures in pixels."""
    side: tuple[float, float, float]
    """5th, 50th and 95th percentile of the square root of a box's area, in pixels."""


def summarize(index: Index) -> Iterator[Summary]:
    """Yield a summary of each source, in the order of their names."""
    pictures = index.pictures
    source = pictures.source.codes[index.picture]
    side = np.sqrt(index.box[:, 2:].astype(float).prod(1))
    for code in np.argsort(pictures.source.values).tolist():
        own, things = pictures.source.codes == code, source == code
        if not own.any():
            continue
        videos = np.unique(pictures.video.codes[own])
        track = index.track[things]
        width, height = np.median(pictures.size[own], axis=0).astype(int).tolist()
        quantiles = np.quantile(side[things], [0.05, 0.5, 0.95]).tolist() if things.any() else [0.0] * 3
        yield Summary(
            pictures.source.values[code],
            int(own.sum()),
            sum(1 for video in videos.tolist() if pictures.video.values[video]),
            len(np.unique(track[track >= 0])),
            len(track),
            int((track < 0).sum()),
            int(index.mask.filled[things].sum()),
            int(own[index.absent[:, 0]].sum()),
            (width, height),
            (quantiles[0], quantiles[1], quantiles[2]),
        )
