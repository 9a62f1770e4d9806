"""Search of the parameters of tracking: what is searched (space.py), and the study (study.py)."""
