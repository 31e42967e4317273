"""The words that papers share: tensors in, tensors out; nothing here knows a method, a file or a config."""
