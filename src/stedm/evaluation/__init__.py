"""Scores of segmentation networks by patient, the statistics across patients, and the quality of generated images."""
