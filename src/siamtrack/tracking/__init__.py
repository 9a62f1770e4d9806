"""The tracker as functions: crop, network, decode, step. Every array carries a leading axis B of targets."""
