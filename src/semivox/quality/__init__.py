"""Quality: how good a mask is likely to be, told without its label."""
