"""Scoring: masks and labels in, numbers with their intervals out; no torch, since it scores anyone's masks."""
