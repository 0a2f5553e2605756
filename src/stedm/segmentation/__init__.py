"""The segmentation network: its batches, training and predictions."""
