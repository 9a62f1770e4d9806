"""Frames in, frames out: sources, the H.264 writer, drawing."""
