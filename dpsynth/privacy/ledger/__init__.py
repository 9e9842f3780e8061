"""Charges on disk before what they pay for is read."""
