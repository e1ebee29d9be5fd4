"""What stages leave to each other on disk: names, formats, and the readers and writers of each."""
