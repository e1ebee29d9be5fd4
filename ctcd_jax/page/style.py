"""The style sheet of our pages, which carry it within themselves."""

import re
from pathlib import Path

# Without the comment for whoever changes it.
STYLE = re.sub(r"/\*.*?\*/", "", Path(__file__).with_name("style.css").read_text(encoding="utf-8"), flags=re.DOTALL)
