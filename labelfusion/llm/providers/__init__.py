"""One file per way of getting scores."""
