"""What was bought: cells, histograms and questions about them; post-processing of answers."""
