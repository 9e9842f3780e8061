"""Tables: files read and written, the private table, data sets, splits."""
