"""Training: ``loop.py`` is the recipe."""
