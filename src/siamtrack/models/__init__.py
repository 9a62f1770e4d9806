"""The networks: torch modules without state, their configuration, and the presets by name."""
