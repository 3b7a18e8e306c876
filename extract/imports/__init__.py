"""Import vectors that were made elsewhere: read files, join their rows with tables, store them."""
