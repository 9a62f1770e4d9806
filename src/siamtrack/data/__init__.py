"""Training data: pictures and their objects, pairs of them, and the pairs as batches on the training device."""
