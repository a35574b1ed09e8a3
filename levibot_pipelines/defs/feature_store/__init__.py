"""Features, the training snapshot and the online feature vectors."""
