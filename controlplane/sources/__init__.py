"""Where configuration comes from: the files, what was applied, other control planes; and which state of each counts."""
