"""Trunks: images to feature maps of stride 8."""
