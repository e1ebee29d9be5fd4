"""The sections of a report: each function turns what was found into parts in HTML, none where there is nothing."""
