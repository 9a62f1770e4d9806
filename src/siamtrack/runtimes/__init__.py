"""What runs a network: torch or ONNX Runtime, behind :class:`siamtrack.tracking.network.Network`."""
