"""What the README shows is what works."""

import re

import pytest
from tests.conftest import ROOT

from siamtrack import Tracker
from siamtrack.video.source import VideoSource

README = (ROOT / "README.md").read_text()


def test_the_first_two_commands_are_the_whole_set_up():
    commands = [block.strip() for block in re.findall(r"```bash\n(.*?)```", README, re.S)][:2]
    assert commands == [
        "python -m pip install '.[demo]' && siamtrack demo",
        "python -m pip install '.[dev]' && pytest",
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_examples_run(number, clip, capsys):
    code = re.findall(r"```python\n(.*?)```", README, re.S)[number]
    names = {}
    if number == 1:
        frames = VideoSource(clip)
        images = [frame.image for frame in frames]
        names = {"tracker": Tracker(), "frame": images[0], "next_frame": images[1], "box": (100, 90, 40, 40)}
    code = code.replace('"video.mp4"', repr(str(clip))).replace("(120, 80, 60, 140)", "(100, 90, 40, 40)")
    exec(code, names)
    if number == 0:
        assert len(capsys.readouterr().out.splitlines()) == 24
    else:
        assert names["result"].box.shape == (4,)


def test_every_linked_page_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
