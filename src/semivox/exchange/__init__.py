"""Exchange: a trained run as files that other programs read, and labels and masks as a data set of nnU-Net."""
