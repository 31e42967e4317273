"""The vocabulary that papers share: tensors in, tensors out, nothing of methods, files or loops."""
