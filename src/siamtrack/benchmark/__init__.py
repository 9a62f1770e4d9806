"""How long a frame takes, where the time goes, and how that compares: ``siamtrack benchmark``."""
