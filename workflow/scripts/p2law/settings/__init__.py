"""What study files and specs are written in: sections of typed keys, faults in words."""
