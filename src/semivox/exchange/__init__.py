"""Exchange: DICOM series as a data set, runs as files that other programs read, masks as a data set of nnU-Net."""
