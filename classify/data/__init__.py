"""From a store to matrices: features, labels, splits and groups of rows."""
