"""Tasks and their examples: GLUE's and one's own, from files, the hub or TensorFlow Datasets."""
