"""The files of a store: how parts, specs and journals are laid out, written and read."""
