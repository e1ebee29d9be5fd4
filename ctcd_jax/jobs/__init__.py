"""Work for several processes, and what is shown of it."""
