"""Benchmarking: protocols of many methods, label budgets and seeds; cross-validation; the demonstration."""
