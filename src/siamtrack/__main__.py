"""``python -m siamtrack`` is the ``siamtrack`` command."""

from siamtrack.cli.main import run

run()
