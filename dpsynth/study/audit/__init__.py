"""Audits of a release, of ours or of another tool: what is asked, what is known, what comes out."""
