"""Whether the Hugging Face hub can be reached, known in seconds: its own clients try for 23 before they give up."""

import urllib.error
import urllib.request

import huggingface_hub

_TIMEOUT = 5  # seconds


def check_reachable() -> None:
    """Asks the hub for any answer at all.

    Raises:
      OSError: there is none, or `HF_HUB_OFFLINE` forbids to ask.
    """
    if huggingface_hub.is_offline_mode():
        raise ConnectionError("HF_HUB_OFFLINE is set")
    try:
        urllib.request.urlopen(huggingface_hub.constants.ENDPOINT, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except urllib.error.URLError as error:
        raise ConnectionError(error.reason) from error
