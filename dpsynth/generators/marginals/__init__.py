"""Fits to bought joint histograms: free, whatever method uses them."""
