"""Membership attacks on a released table; a higher score means that the target looks more like a member."""
