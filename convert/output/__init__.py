"""The output folder and its files. It must not know how weights are read or rounded."""
