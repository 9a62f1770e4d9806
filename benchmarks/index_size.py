"""How large and how fast an index of many pictures is: built, written, read and split, without looking at pictures.

python benchmarks/index_size.py --pictures 1000000
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from siamtrack.data.index import IndexBuilder, read_index, write_index
from siamtrack.data.records import Object, Record


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=300_000, help="frames, of 100 a video, with two objects each")
    count = parser.parse_args().pictures

    def told(what: str, began: float) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"{what}: {time.perf_counter() - began:.2f} s, peak of resident memory {peak:.0f} MiB")

    with tempfile.TemporaryDirectory() as name:
        root, path = Path(name), Path(name) / "index.parquet"
        builder, began = IndexBuilder(root, check=False), time.perf_counter()
        for video in range(count // 100):
            folder = root / f"Data/VID/train/ILSVRC2015_VID_train_{video % 4:04d}/ILSVRC2015_train_{video:08d}"
            for frame in range(100):
                boxes = (10 + frame, 20, 300, 200), (600 - frame, 30, 80, 90)
                things = [Object(box, track, "n02084071") for track, box in enumerate(boxes)]
                builder.add(Record(folder / f"{frame:06d}.JPEG", things, folder.name, frame, (1280, 720)), "vid")
        index = builder.build()
        told(f"built {len(index)} objects", began)
        began = time.perf_counter()
        write_index(index, path)
        told(f"written, {path.stat().st_size / 2**20:.1f} MiB", began)
        began = time.perf_counter()
        index = read_index(path)
        told("read", began)
        began = time.perf_counter()
        index.split([folder.name])
        told("split", began)


if __name__ == "__main__":
    main()
