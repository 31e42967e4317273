"""Workflow: from a folder of scans, a few of them labelled, to ranked masks in one go."""
