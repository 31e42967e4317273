"""Prediction: trained runs and scans in, masks out."""
