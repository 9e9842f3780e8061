"""What events cost, and how much noise a budget asks for."""
