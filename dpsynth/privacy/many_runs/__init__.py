"""More than one run on a table: ladders, the best of a sweep, what all have spent."""
