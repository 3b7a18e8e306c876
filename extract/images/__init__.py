"""Images: where they lie, how they are decoded, and the keys of their contents."""
