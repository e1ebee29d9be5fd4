"""The report of everything that was found, and the measured part of model cards."""
