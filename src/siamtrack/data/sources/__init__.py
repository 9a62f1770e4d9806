"""Training data in its published layouts: a file a family, and all of them by name."""
