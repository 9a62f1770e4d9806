"""YouTube-BB (Real et al., CVPR 2017): ``yt_bb_detection_train.csv`` and the frames that its download scripts write,
``yt_bb_detection_train/CLASS/VIDEO_TIMESTAMP_CLASS_OBJECT.jpg``; validation the same.
"""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError


def read_ytbb(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames that the tables name, one a second.

    A row is youtube_id, timestamp_ms, class_id, class_name, object_id, object_presence, xmin, xmax, ymin, ymax with
    corners as shares of the picture's width and height.

    Raises:
        UserError: there is no table.
    """
    tables = sorted(path for path in root.glob("yt_bb_detection_*.csv*") if path.suffix in (".csv", ".gz"))
    if not tables:
        raise UserError(f"YouTube-BB: looked for yt_bb_detection_train.csv in {root} and found none")
    for table in tables:
        folder = root / table.name.split(".")[0]
        with (gzip.open if table.suffix == ".gz" else open)(table, "rt", encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                where = f"{table.name} line {number}"
                try:
                    video, time, class_id, label, thing, presence, *corners = row
                    left, right, top, bottom = map(float, corners)
                    second = int(time) // 1000
                except ValueError:
                    if number > 1 or row[:1] != ["youtube_id"]:  # a line of titles
                        yield Rejection("ytbb", where, "damaged line")
                    continue
                image = folder / class_id / f"{video}_{time}_{class_id}_{thing}.jpg"
                if presence == "absent" and not image.is_file():
                    continue  # nothing is lost: the scripts may leave out such frames
                box = None if presence == "absent" else (left, top, right - left, bottom - top)
                item = Object(box, f"{class_id}+{thing}", label)
                yield Record(image, [item], video, second, shares=True)
