"""Config: every key with its meaning, how sources of values merge, and TOML."""
