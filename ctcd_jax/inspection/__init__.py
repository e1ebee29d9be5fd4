"""What `ctcd inspect` shows of a prepared corpus: facts, put into words, laid out as text or as a page."""
