"""Selection: which scans to label next, and corrected masks back into the data set."""
