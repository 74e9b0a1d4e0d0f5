"""Cases on disk to training samples."""
