"""Planning: a pool of scans and a machine in, a config with predicted memory and time out."""
