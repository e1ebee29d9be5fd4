"""The process and its machine: memory, compiled programs, hardware, signals, other processes."""
