"""Training: a folder of scans and a method in, a run folder out."""
