"""What the heads trained by gradient descent share."""
