"""One question answered: may they, and why was that denied."""
