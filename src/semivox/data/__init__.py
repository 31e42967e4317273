"""Data: files, folders and splits in; prepared arrays and crops out. Knows no method."""
