"""What a unit of privacy is: its rows in order, what it can do at most, which encoders fit it."""
