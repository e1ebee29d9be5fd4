"""The same work written for other libraries: as their users would write it, and as strong as we can make it."""
