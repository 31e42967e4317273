"""Runs: a run folder on disk, and the net, method and engine that its config means."""
