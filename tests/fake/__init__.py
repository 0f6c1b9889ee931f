"""Writers of tiny data sets in the layouts, file formats and raw values that their users have."""
