"""Exchange: DICOM in and out, runs as files that other programs read, masks as a data set of nnU-Net."""
