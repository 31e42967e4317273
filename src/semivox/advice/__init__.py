"""Advice before the long run: do unlabelled scans help here, would more labels help more, and are the scans alike?"""
