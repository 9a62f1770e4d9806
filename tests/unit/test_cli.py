"""A command line that cannot be read is answered as all bad input is; what stops a command stops it soon."""

import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from siamtrack.cli.follow import follow
from siamtrack.cli.main import app, run
from siamtrack.errors import UserError
from siamtrack.multi import MultiTracker, Target
from siamtrack.video.source import VideoSource


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trak"], "no such command 'trak'; did you mean 'track'"),
        (["data", "indx"], "no such command 'indx'; did you mean 'index'? (see 'siamtrack data --help')"),
        (["--vers"], "'siamtrack' has no option --vers; did you mean '--version'?"),
        (["track"], "'siamtrack track' needs SOURCE: Video file or URL, "),
        (["track", "a", "--bxo", "1"], "has no option --bxo; did you mean '--box'? (see 'siamtrack track --help')"),
        (["track", "a", "-x"], "'siamtrack track' has no option -x (see"),
        (["track", "a", "b"], "unexpected extra argument"),
        (["track", "a", "--box"], "option '--box' requires an argument (see --help)"),
        (["track", "a", "--threads", "x"], "--threads x should be a valid integer (see 'siamtrack track --help')"),
        (["track-many", "a", "--batch", "0"], "--batch 0 should be greater than or equal to 1"),
        (["eval"], "'siamtrack eval' needs --dataset: Name of a data set"),
        (["eval", "--dataset", "a", "--workers", ""], "--workers '' should be a valid integer"),
        (["search", "a", "--dataset", "b", "--sampler", "tpx"], "--sampler: 'tpx' is not one of 'tpe', 'cmaes'"),
        (["analyze", "--dataset", "a"], "'siamtrack analyze' needs FIGURE...: centre-bias"),
        (["benchmark", "--rounds", "1.5"], "--rounds 1.5 should be a valid integer"),
        (["models", "show"], "'siamtrack models show' needs NAME"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_sentence(words, said, monkeypatch, capsys):
    with pytest.raises(UserError) as refused:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(sys, "argv", ["siamtrack", *words])
    with pytest.raises(SystemExit) as stopped:
        run()
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out, printed.err) == (2, "", f"error: {refused.value}\n")


def test_it_is_one_line_in_a_process_of_its_own_too():
    done = subprocess.run(
        [sys.executable, "-m", "siamtrack", "track", "a.mp4", "--thread", "2"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 'siamtrack ")
    assert done.stderr.endswith("track' has no option --thread; did you mean '--threads'? "
                                "(see 'siamtrack track --help')\n")  # fmt: skip


@pytest.mark.parametrize(("words", "code"), [([], 2), (["--help"], 0), (["track", "--help"], 0), (["--version"], 0)])
def test_help_and_version_are_printed(words, code):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code
    assert ("siamtrack 0" if words == ["--version"] else "Usage:") in done.output


@pytest.mark.skip(reason="a signal raised late in a long run of tests ends the interpreter; cause not found yet")
def test_tracking_many_objects_stops_in_the_middle_of_a_frame(clip, tmp_path, monkeypatch):
    """Two objects go one by one; SIGTERM comes with the first of them, in the fourth frame."""
    tracker, calls = MultiTracker(threads=1, batch=1), []
    plain = tracker._core.step

    def counted(*given):
        calls.append(given)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGTERM)
        return plain(*given)

    monkeypatch.setattr(tracker._core, "step", counted)
    table, targets = tmp_path / "a.jsonl", [Target((100, 90, 40, 40)), Target((20, 20, 50, 50))]
    followed = follow(tracker, VideoSource(clip), targets, table, None)
    assert (followed.frames, followed.interrupted, len(calls)) == (4, "SIGTERM", 7)
    assert len(table.read_text().splitlines()) == 8
