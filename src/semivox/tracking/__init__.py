"""Tracking: the log of a training, as it grows, in the files of TensorBoard or MLflow; nothing leaves the machine."""
