"""Images: their location, decoding, and content keys."""
