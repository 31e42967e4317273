"""Benchmarking: protocols of many methods, label budgets and seeds; the demonstration."""
